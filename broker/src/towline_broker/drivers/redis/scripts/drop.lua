-- 4: queue; 5...: ids. {news, how many}
local done = 0

-- Its end is forgotten, and how its last lease ended is not.
local function forget_end(job)
  local value = redis.call('HGET', P .. 'mem', job.id)
  if not value then return end
  local _, settlement, _, till, _, grant = unframe(ENDED, value)
  if settlement ~= 0 then remember_lease(job, grant, settlement, till) end
  put('HDEL', P .. 'mem', job.id)
end

for _, job in ipairs(find({unpack(ARGV, 5)})) do
  if job and job.queue == ARGV[4] and job.state ~= LEASED and not job.removed then
    leave(job)
    remove(job)
    free_key(job, true)
    forget_end(job)
    done = done + 1
  end
end
if done == 0 then return {'', 0} end
return {write(), done}
