-- What another store has to know of a job: what a broker is told of it, "1" if it holds its key, the
-- end of its retention ("0": none).
local function tell_transfer(out, job)
  local holds, keep = '0', '0'
  if job.key then
    local value = redis.call('HGET', P .. 'u', job.queue .. '|' .. job.key)
    if value and string.match(value, '|(.*)$') == job.id then holds = '1' end
  end
  if job.state == SUCCEEDED or job.state == CANCELLED then
    keep = int(tonumber(redis.call('ZSCORE', P .. 'keep', job.n)))
  end
  tell_job(out, job)
  frame(out, holds)
  frame(out, keep)
end
