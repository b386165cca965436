-- 4: most jobs; 5: length of the lease; 6: grant; 7: worker; 8: request; 9: most bytes of
-- envelopes; 10: "1" to look for leases under the request first; 11...: queues.
-- {news, "1" if there is more to look at, leased jobs}
local most, length, grant, worker, request = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]
local room = tonumber(ARGV[9])
local queues = {unpack(ARGV, 11)}

-- How many jobs beyond those leased one call looks at, to find those that are too old.
local LOOK = 1000

local out, granted = {}, {}
if request ~= '' and ARGV[10] == '1' then
  local held = load(redis.call('SMEMBERS', P .. 'r:' .. request))
  for _, job in ipairs(held) do tell_job(out, job) end
  if #out > 0 then return {'', '0', table.concat(out)} end
end

local look = most + LOOK

local function take(job)
  if job.attempt == 0 and job.expires ~= 0 and not job.lasting and job.expires <= NOW then
    bury(job, EXPIRED)
    return
  end
  lease(job, length, grant, worker, request)
  granted[#granted + 1] = job
  room = room - job.size
end

local function take_line(key)
  local from = 0
  while #granted < most and room > 0 and look > 0 do
    local wanted = min(most - #granted, look)
    local numbers = redis.call('ZRANGE', key, from, from + wanted - 1)
    for _, job in ipairs(load(numbers)) do
      if room <= 0 then return end
      take(job)
    end
    from, look = from + #numbers, look - #numbers
    if #numbers < wanted then return end
  end
end

if most > 0 then
  for i, marks in ipairs(hmget(P .. 'qs', queues)) do
    local paused, _, to = queue_marks(marks)
    if not paused and to == '' then
      for _, priority in ipairs(priorities_of(queues[i])) do
        if #granted >= most or room <= 0 or look <= 0 then break end
        take_line(line_key(queues[i], tonumber(priority)))
      end
    end
  end
end

if #changed == 0 then return {'', '0', ''} end
local news = write()
for _, job in ipairs(granted) do tell_job(out, job) end
return {news, look <= 0 and '1' or '0', table.concat(out)}
