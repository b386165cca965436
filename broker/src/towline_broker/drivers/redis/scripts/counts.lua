-- {name and depth by turns, name and total by turns}
return {redis.call('HGETALL', P .. 'd'), redis.call('HGETALL', P .. 't')}
