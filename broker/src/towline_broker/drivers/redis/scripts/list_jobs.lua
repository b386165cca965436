-- 1: after this number; 2: most jobs told; 3: queue; 4: type; 5: states, as digits (each empty:
-- any). {jobs, the number that the next call goes on after, empty at the end}
local after, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local queue, kind, states = ARGV[3], ARGV[4], ARGV[5]
-- Most jobs looked at.
local LOOK = 2000

local function numbers_in(bucket)
  local numbers = {}
  for _, n in ipairs(redis.call('HKEYS', P .. 'j:' .. bucket)) do
    local number = tonumber(n)
    if number > after then numbers[#numbers + 1] = number end
  end
  table.sort(numbers)
  return numbers
end

local function matches(job)
  return (queue == '' or job.queue == queue) and (kind == '' or job.type == kind)
    and (states == '' or string.find(states, job.state, 1, true))
end

local out, told, looked, size = {}, 0, 0, 0
local PAGE = 100
local buckets = redis.call('ZRANGEBYSCORE', P .. 'b', bucket_of(after), '+inf', 'LIMIT', 0, LOOK)
for _, bucket in ipairs(buckets) do
  local numbers = numbers_in(bucket)
  for first = 1, #numbers, PAGE do
    local page = {}
    for i = first, min(first + PAGE - 1, #numbers) do page[#page + 1] = int(numbers[i]) end
    for _, job in ipairs(load(page)) do
      looked = looked + 1
      if matches(job) then
        tell_job(out, job)
        told, size = told + 1, size + job.size
      end
      if told >= most or looked >= LOOK or size >= MOST_TOLD then
        return {table.concat(out), job.n}
      end
    end
  end
end
local last = buckets[LOOK]
return {table.concat(out), last and int((last + 1) * BUCKET - 1) or ''}
