-- 1: queue; 2: most jobs. Of each job its number, as pushed, its row, "1" if it holds its key, the
-- end of its retention ("0": none); or nothing if there is no queue.
local queue, most = ARGV[1], tonumber(ARGV[2])
if redis.call('HEXISTS', P .. 'q', queue) == 0 then return false end
local numbers = waiting_in(queue, most)
local dead = select_dead(groups_of(queue, '', ''), most, '', '', '', '')
for _, n in ipairs(dead) do
  if #numbers < most then numbers[#numbers + 1] = n end
end
if #numbers < most then
  for _, n in ipairs(redis.call('ZRANGE', P .. 'kept:' .. queue, 0, most - #numbers - 1)) do
    numbers[#numbers + 1] = n
  end
end
local out, size = {}, 0
for _, job in ipairs(load(numbers)) do
  if size >= MOST_TOLD then break end
  tell_transfer(out, job)
  size = size + job.size
end
return table.concat(out)
