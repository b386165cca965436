-- 4: queue; 5...: of each job its id, and the state and attempt in which it was seen. {news, for
-- each "1" if it is gone now, else "0"}

-- Its end is forgotten, and how its last lease ended is not.
local function forget_end(job)
  local value = redis.call('HGET', P .. 'mem', job.id)
  if not value then return end
  local _, settlement, _, till, _, grant = unframe(ENDED, value)
  if settlement ~= 0 then remember_lease(job, grant, settlement, till) end
  put('HDEL', P .. 'mem', job.id)
end

local ids, states, attempts = {}, {}, {}
for at = 5, #ARGV, 3 do
  ids[#ids + 1] = ARGV[at]
  states[#ids], attempts[#ids] = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
end
local gone, changed = {}, false
for i, job in ipairs(find(ids)) do
  gone[i] = '0'
  if job and job.queue == ARGV[4] and job.state ~= LEASED and job.state == states[i]
    and job.attempt == attempts[i] and not job.removed then
    leave(job)
    remove(job)
    free_key(job, true)
    forget_end(job)
    gone[i], changed = '1', true
  end
end
return {changed and write() or '', table.concat(gone)}
