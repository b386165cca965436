-- The waiting jobs of one queue.

-- The numbers of the first: READY ones in the order of the line, then SCHEDULED ones in that of
-- their times.
local function waiting_in(queue, most)
  local numbers = {}
  for _, priority in ipairs(priorities_of(queue)) do
    local left = most - #numbers
    if left <= 0 then return numbers end
    for _, n in ipairs(redis.call('ZRANGE', line_key(queue, tonumber(priority)), 0, left - 1)) do
      numbers[#numbers + 1] = n
    end
  end
  local left = most - #numbers
  if left > 0 then
    for _, member in ipairs(redis.call('ZRANGE', P .. 'due:' .. queue, 0, left - 1)) do
      numbers[#numbers + 1] = string.match(member, ':(.*)$')
    end
  end
  return numbers
end

local function waiting_count(queue)
  return ready_count(queue) + redis.call('ZCARD', P .. 'due:' .. queue)
end
