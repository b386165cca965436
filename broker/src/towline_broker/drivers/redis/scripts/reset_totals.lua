redis.call('DEL', P .. 't')
return 1
