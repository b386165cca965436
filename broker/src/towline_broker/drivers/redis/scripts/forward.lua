-- 4: queue. "1" if it is moved, "0" if not, nothing if there is no queue.
local queue = ARGV[4]
if redis.call('HEXISTS', P .. 'q', queue) == 0 then return false end
local paused, moved, to = queue_marks(redis.call('HGET', P .. 'qs', queue))
local jobs = tonumber(redis.call('HGET', P .. 'q', queue)) + #groups_of(queue, '', '')
  + redis.call('ZCARD', P .. 'kept:' .. queue)
if to == '' or jobs > 0 then return '0' end
if not moved then
  put('HSET', P .. 'qs', queue, (paused and '1' or '0') .. '1' .. to)
  write()
end
return '1'
