-- Dead jobs: for each queue, type and reason ("group") a sorted set by the time of death; "dead"
-- names the groups that are not empty.

-- The chosen groups; an empty part stands for any.
local function groups_of(queue, kind, reason)
  local groups = {}
  for _, group in ipairs(redis.call('SMEMBERS', P .. 'dead')) do
    local q, k, r = string.match(group, '^(.*)|(.*)|(%d+)$')
    if (queue == '' or q == queue) and (kind == '' or k == kind) and (reason == '' or r == reason) then
      groups[#groups + 1] = P .. 'dead:' .. group
    end
  end
  table.sort(groups)
  return groups
end

-- The rank of the first member behind (score, member), wherever that one is by now.
local function rank_behind(key, score, member)
  local low = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  local high = redis.call('ZCOUNT', key, '-inf', score)
  while low < high do
    local middle = floor((low + high) / 2)
    if redis.call('ZRANGE', key, middle, middle)[1] > member then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

-- Most entries that one call reads.
local LOOK = 20000

-- The numbers of the first dead jobs (at most so many) of the groups that died at or after "since",
-- before "before", and behind the place ("score", "member"); empty ones do not count. Then whether
-- there may be more.
local function select_dead(groups, most, since, before, score, member)
  if #groups == 0 then return {}, false end
  most = max(1, min(most, floor(LOOK / #groups)))
  local found = {}
  for _, key in ipairs(groups) do
    local first = 0
    if since ~= '' then first = redis.call('ZCOUNT', key, '-inf', '(' .. since) end
    if score ~= '' then first = max(first, rank_behind(key, score, member)) end
    local entries = redis.call('ZRANGE', key, first, first + most - 1, 'WITHSCORES')
    for i = 1, #entries, 2 do
      local died = tonumber(entries[i + 1])
      if before ~= '' and died >= tonumber(before) then break end
      found[#found + 1] = {died, entries[i]}
    end
  end
  table.sort(found, function(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    return a[2] < b[2]
  end)
  local numbers = {}
  for i = 1, min(most, #found) do numbers[i] = int(tonumber(found[i][2])) end
  return numbers, #numbers == most
end

local function count_dead(groups, since, before)
  local lowest = since == '' and '-inf' or since
  local highest = before == '' and '+inf' or '(' .. before
  local number = 0
  for _, key in ipairs(groups) do number = number + redis.call('ZCOUNT', key, lowest, highest) end
  return number
end

-- Dead jobs among these ids, each once, earliest death first.
local function dead_among(ids)
  local jobs, seen = {}, {}
  for _, job in ipairs(find(ids)) do
    if job and job.state == DEAD and not seen[job.id] then
      seen[job.id] = true
      jobs[#jobs + 1] = job
    end
  end
  table.sort(jobs, function(a, b)
    if a.finished ~= b.finished then return a.finished < b.finished end
    return tonumber(a.n) < tonumber(b.n)
  end)
  return jobs
end
