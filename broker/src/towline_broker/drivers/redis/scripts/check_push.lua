-- Whether a push would be refused: 4 as for push; 5: the jobs; 6...: limits.
-- {"ok", queue, jobs that would be created, ...}, {"full", queue} or {"moved", queue, to}
local planned, refusal = plan(ARGV[5], {unpack(ARGV, 6)})
if refusal then return refusal end
if planned.full and ARGV[4] == '1' then return {'full', planned.full} end
local counts, reply = {}, {'ok'}
for _, job in ipairs(planned.created) do counts[job.queue] = (counts[job.queue] or 0) + 1 end
for queue, number in pairs(counts) do
  reply[#reply + 1] = queue
  reply[#reply + 1] = number
end
return reply
