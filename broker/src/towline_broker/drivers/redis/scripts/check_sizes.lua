-- {how many jobs there are, then what is wrong}: whether lists are as long as the counts say.
local wrong = {}
local function same(what, counted, there)
  if counted ~= there then
    wrong[#wrong + 1] = what .. ': ' .. int(counted) .. ' by the counts, and ' .. int(there)
      .. ' by the lists'
  end
end

local by_queue, by_type = {}, {}
local all = {scheduled = 0, ready = 0, leased = 0, dead = 0}
local depths = redis.call('HGETALL', P .. 'd')
for i = 1, #depths, 2 do
  local queue, kind, what = string.match(depths[i], '^(.-)|(.-)|(.*)$')
  local number = tonumber(depths[i + 1])
  local counts = by_queue[queue] or {scheduled = 0, ready = 0, leased = 0, dead = 0}
  by_queue[queue] = counts
  counts[what] = counts[what] + number
  all[what] = all[what] + number
  if what == 'dead' then by_type[queue .. '|' .. kind] = number end
end

local kept = 0
local queues = redis.call('HGETALL', P .. 'q')
for i = 1, #queues, 2 do
  local queue, live = queues[i], tonumber(queues[i + 1])
  local counts = by_queue[queue] or {scheduled = 0, ready = 0, leased = 0, dead = 0}
  same('queue ' .. queue .. ', ready', counts.ready, ready_count(queue))
  same('queue ' .. queue .. ', scheduled', counts.scheduled,
    redis.call('ZCARD', P .. 'due:' .. queue))
  same('queue ' .. queue .. ', live', live, counts.scheduled + counts.ready + counts.leased)
  kept = kept + redis.call('ZCARD', P .. 'kept:' .. queue)
end

local dead = {}
for _, group in ipairs(redis.call('SMEMBERS', P .. 'dead')) do
  local name = string.match(group, '^(.*)|')
  dead[name] = (dead[name] or 0) + redis.call('ZCARD', P .. 'dead:' .. group)
end
for name, number in pairs(by_type) do
  same('queue and type ' .. name .. ', dead', number, dead[name] or 0)
end
for name, number in pairs(dead) do
  if not by_type[name] then same('queue and type ' .. name .. ', dead', 0, number) end
end

same('leased', all.leased, redis.call('ZCARD', P .. 'run'))
same('scheduled', all.scheduled, redis.call('ZCARD', P .. 'due'))
same('kept after their end', kept, redis.call('ZCARD', P .. 'keep'))
local stored = 0
for _, bucket in ipairs(redis.call('ZRANGE', P .. 'b', 0, -1)) do
  stored = stored + redis.call('HLEN', bucket_key(tonumber(bucket)))
end
same('jobs', all.scheduled + all.ready + all.leased + all.dead + kept, stored)
same('ids', redis.call('HLEN', IDS), stored)
return {stored, unpack(wrong)}
