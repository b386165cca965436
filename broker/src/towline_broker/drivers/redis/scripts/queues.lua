-- {names, name and marks by turns}
return {redis.call('HKEYS', P .. 'q'), redis.call('HGETALL', P .. 'qs')}
