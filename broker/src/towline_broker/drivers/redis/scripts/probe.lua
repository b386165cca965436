-- 1: request; 2...: queues.
-- {jobs leased under the request, "1" for each queue that may have something to lease, else "0"}
local out = {}
if ARGV[1] ~= '' then
  for _, job in ipairs(load(redis.call('SMEMBERS', P .. 'r:' .. ARGV[1]))) do tell_job(out, job) end
end
local able = {}
for i = 2, #ARGV do
  able[#able + 1] = redis.call('EXISTS', P .. 'p:' .. ARGV[i])
end
return {table.concat(out), table.concat(able)}
