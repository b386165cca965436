-- The earliest time at which something is due; empty: none.
local earliest
for _, name in ipairs({'due', 'exp', 'run'}) do
  local first = tonumber(redis.call('ZRANGE', P .. name, 0, 0, 'WITHSCORES')[2])
  if first and (not earliest or first < earliest) then earliest = first end
end
return earliest and int(earliest) or ''
