-- 4: most jobs. {news, how many}
local numbers = redis.call('ZRANGEBYSCORE', P .. 'exp', '-inf', NOW, 'LIMIT', 0, ARGV[4])
if #numbers == 0 then return {'', 0} end
for _, job in ipairs(load(numbers)) do bury(job, EXPIRED) end
return {write(), #numbers}
