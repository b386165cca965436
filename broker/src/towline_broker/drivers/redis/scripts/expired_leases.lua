-- 1: now; 2: most leases. Their jobs, earliest deadline first.
local out = {}
local numbers = redis.call('ZRANGEBYSCORE', P .. 'run', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, job in ipairs(load(numbers)) do tell_lease(out, job) end
return table.concat(out)
