-- 4: queue; 5: "1" or "0". {news, "1" if that changed anything}, or nothing if there is no queue.
local queue = ARGV[4]
if redis.call('HEXISTS', P .. 'q', queue) == 0 then return false end
local paused, moved, to = queue_marks(redis.call('HGET', P .. 'qs', queue))
if paused == (ARGV[5] == '1') then return {'', '0'} end
if ARGV[5] == '0' and to == '' then
  put('HDEL', P .. 'qs', queue)
else
  put('HSET', P .. 'qs', queue, ARGV[5] .. (moved and '1' or '0') .. to)
end
if ARGV[5] == '0' and to == '' then
  local ready = ready_count(queue)
  if ready > 0 then told_ready[queue] = ready end
end
return {write(), '1'}
