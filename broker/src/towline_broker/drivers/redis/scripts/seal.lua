-- 4: queue; 5: the store that it moves to (empty: it is at home here).
-- {news, "1"}, or nothing if there is no queue.
local queue, store = ARGV[4], ARGV[5]
if redis.call('HEXISTS', P .. 'q', queue) == 0 then
  if store ~= '' then return false end
  return {'', '1'}
end
local paused, moved, to = queue_marks(redis.call('HGET', P .. 'qs', queue))
if store == '' and to == '' then return {'', '1'} end
if store == '' then moved = false end
if store == '' and not paused then
  put('HDEL', P .. 'qs', queue)
  local ready = ready_count(queue)
  if ready > 0 then told_ready[queue] = ready end
else
  put('HSET', P .. 'qs', queue, (paused and '1' or '0') .. (moved and '1' or '0') .. store)
end
return {write(), '1'}
