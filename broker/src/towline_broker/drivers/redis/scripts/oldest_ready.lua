-- Of each queue with READY jobs its name and the earliest time at which one became so.
local out = {}
for _, queue in ipairs(redis.call('HKEYS', P .. 'q')) do
  local oldest
  for _, priority in ipairs(priorities_of(queue)) do
    local job = load(redis.call('ZRANGE', line_key(queue, tonumber(priority)), 0, 0))[1]
    if job and (not oldest or job.available < oldest) then oldest = job.available end
  end
  -- Jobs from another store stand behind those that are younger.
  local carried = tonumber(redis.call('ZRANGE', P .. 'since:' .. queue, 0, 0, 'WITHSCORES')[2])
  if carried and oldest and carried < oldest then oldest = carried end
  if oldest then
    out[#out + 1] = queue
    out[#out + 1] = int(oldest)
  end
end
return out
