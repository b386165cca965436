-- 1: broker; 2: notice (empty: none); 3: time to keep it until.
-- Taking away comes first: it is allowed to a server that is out of memory, and so is what follows.
redis.call('HDEL', P .. 'notices', ARGV[1])
if ARGV[2] ~= '' then
  redis.call('HSET', P .. 'notices', ARGV[1], pack('<i8', tonumber(ARGV[3])) .. ARGV[2])
end
return 1
