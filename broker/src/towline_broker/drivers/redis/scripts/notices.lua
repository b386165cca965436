-- Broker and notice (with its time) by turns.
return redis.call('HGETALL', P .. 'notices')
