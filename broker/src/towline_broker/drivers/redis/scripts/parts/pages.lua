-- Jobs in the order of their numbers, in pages.
local function numbers_in(bucket, after)
  local numbers = {}
  for _, n in ipairs(redis.call('HKEYS', P .. 'j:' .. bucket)) do
    local number = tonumber(n)
    if number > after then numbers[#numbers + 1] = number end
  end
  table.sort(numbers)
  return numbers
end

-- Shows those after a number to a function, until it returns true or there are no more, but no more
-- than so many. Returns the number that the next call goes on after, empty at the end.
local PAGE = 100
local function walk(after, most, show)
  local looked = 0
  local first = bucket_of(after + 1)
  local buckets = redis.call('ZRANGEBYSCORE', P .. 'b', first, '+inf', 'LIMIT', 0, most)
  for _, bucket in ipairs(buckets) do
    local numbers = numbers_in(bucket, after)
    for first = 1, #numbers, PAGE do
      local page = {}
      for i = first, min(first + PAGE - 1, #numbers) do page[#page + 1] = int(numbers[i]) end
      for _, job in ipairs(load(page)) do
        looked = looked + 1
        if show(job) or looked >= most then return job.n end
      end
    end
  end
  local last = buckets[most]
  return last and int((last + 1) * BUCKET - 1) or ''
end
