-- 1: id. {"job", the job}, {"memory", what is remembered}, or nothing.
local job = find({ARGV[1]})[1]
if job then
  local out = {}
  tell_job(out, job)
  return {'job', table.concat(out)}
end
local value = redis.call('HGET', P .. 'mem', ARGV[1])
return value and {'memory', value}
