-- 1: "due", "exp" or "run"; 2: now; 3: most. The times that are past, a line each, earliest first.
local times = {}
local found = redis.call('ZRANGEBYSCORE', P .. ARGV[1], '-inf', ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for i = 2, #found, 2 do times[#times + 1] = int(tonumber(found[i])) end
return table.concat(times, '\n')
