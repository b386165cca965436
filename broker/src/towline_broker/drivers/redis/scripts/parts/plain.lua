-- Plain jobs: READY when they are pushed, and without time to live, retention, unique key or a large
-- envelope. For them there is no table of all that a job can have, which costs more than all that is
-- done to them.
local function is_plain(flags)
  return flags == 0 or flags == RETRYING or flags == ORDERED or flags == ORDERED + RETRYING
end

-- Where "put" would put it, for who puts much.
local function buffer(command, key)
  local args = writes[command][key]
  if not args then
    args = {n = 0}
    writes[command][key] = args
  end
  return args
end

-- What is counted of plain jobs of one queue and type.
local tallied = {}
local function add_to_tally(queue, kind)
  local types = tallied[queue]
  if not types then
    types = {}
    tallied[queue] = types
  end
  types[kind] = (types[kind] or 0) + 1
end

-- Adds them up as "count" and "count_state" do one by one: each has left the state "from", if there
-- is one, for "to", if that is one, and counts as "what".
local function count_plain(from, to, what)
  for queue, types in pairs(tallied) do
    for kind, number in pairs(types) do
      local tally = tally_of({queue = queue, type = kind})
      local depth, total = tally.depth, tally.total
      if from then depth[from] = (depth[from] or 0) - number end
      if to then depth[to] = (depth[to] or 0) + number end
      total[what] = (total[what] or 0) + number
      local by = (to and number or 0) - (from and number or 0)
      live[queue] = (live[queue] or 0) + by
    end
  end
end
