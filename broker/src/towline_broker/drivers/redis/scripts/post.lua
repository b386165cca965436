-- 1: broker; 2: notice (empty: none); 3: time to keep it until.
-- Taking away comes first: it is allowed to a server that is out of memory, and so is what follows.
redis.call('HDEL', P .. 'notices', ARGV[1])
-- Those of brokers that went without a word go an hour later.
local kept, past = redis.call('HGETALL', P .. 'notices'), tonumber(ARGV[3]) - 3600000000
for i = 1, #kept, 2 do
  local till = unframe('<i8', kept[i + 1])
  if till < past then redis.call('HDEL', P .. 'notices', kept[i]) end
end
if ARGV[2] ~= '' then
  redis.call('HSET', P .. 'notices', ARGV[1], pack('<i8', tonumber(ARGV[3])) .. ARGV[2])
end
return 1
