-- 1: after this number; 2: most jobs. {of each job its number, as pushed, its row, "1" if it holds
-- its key, the end of its retention ("0": none); the number that the next call goes on after, empty
-- at the end}
local out, size = {}, 0
local last = walk(tonumber(ARGV[1]), tonumber(ARGV[2]), function(job)
  tell_transfer(out, job)
  size = size + job.size
  return size >= MOST_TOLD
end)
return {table.concat(out), last}
