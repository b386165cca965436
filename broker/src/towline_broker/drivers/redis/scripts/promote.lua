-- 4: most jobs. {news, how many}
local numbers = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', NOW, 'LIMIT', 0, ARGV[4])) do
  numbers[#numbers + 1] = string.match(member, ':(.*)$')
end
if #numbers == 0 then return {'', 0} end
for _, job in ipairs(load(numbers)) do
  leave(job)
  wait(job, 0)
  change(job)
end
return {write(), #numbers}
