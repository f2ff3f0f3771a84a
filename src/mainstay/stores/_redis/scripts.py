"""The scripts: each looks at everything first, and writes last, so that none is ever half done.

A script is atomic, and what one wrote is one entry of the server's append-only file. An error in
its middle would leave what was written before that: so what could be refused is looked at first.
All keys of a store have one hash tag, since the list of the runs and the runs change together.

Times are the server's, with the microseconds that Lua's own way to print numbers would cut off. A
test may say what time it is: the first argument of scripts that need the time, empty otherwise.
"""

import hashlib

import attrs

from mainstay.stores import _record_fields
from mainstay.stores.base import RENEWALS_PER_LEASE

FIELDS = _record_fields.FIELDS[2:]
"""The fields of a record but for its run, in the order in which scripts answer."""
WAS = ("token", "grant", "status", "sequence", "expires", "seen")
"""The fields that tell if a record is still as it was read."""

APPLIED, LOST, TAKEN = 0, 1, 2
"""What a commit answers: done, no longer the caller's, a number of a result is used already."""


@attrs.frozen(eq=False)
class Script:
    """A script as it is sent.

    Attributes:
        text: The text.
        digest: What the server calls it once it is loaded.
    """

    text: str
    digest: str

    def called(self, keys: list[bytes], *arguments: bytes | str | float) -> tuple[object, ...]:
        """Return the command that runs the script."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)


def _names(fields: tuple[str, ...]) -> str:
    return ", ".join(f"'{each}'" for each in fields)


def _script(text: str) -> Script:
    for name, value in {
        "$FIELDS": _names(FIELDS),
        "$WAS": _names(WAS),
        "$MANY": str(len(WAS)),
        "$FRESH": repr(1 - 1 / RENEWALS_PER_LEASE),
        "$TIMES": _TIMES,
        "$IN_PARTS": _IN_PARTS,
        "$CONTENTS": _CONTENTS,
        "$TELL": _TELL,
    }.items():
        text = text.replace(name, value)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


_TIMES = """
local function text(seconds) return string.format('%.17g', seconds) end
local time = redis.call('TIME')
local wall = time[1] + time[2] / 1000000
local now = ARGV[1] == '' and wall or tonumber(ARGV[1])
"""
_IN_PARTS = """
local function in_parts(command, key, values)
  for first = 1, #values, 1000 do
    redis.call(command, key, unpack(values, first, math.min(first + 999, #values)))
  end
end
"""
_TELL = """
redis.pcall('PUBLISH', KEYS[1], '')  -- without the right to that, those who wait ask now and then
"""
_CONTENTS = """
{redis.call('HMGET', KEYS[1], 'generation', 'document0', 'document1'),
 redis.call('HGETALL', KEYS[2])}
"""

READ = _script("""$TIMES
-- KEYS: the token of the forgotten runs, runs. ARGV: time.
local found = {text(now), text(wall), redis.call('GET', KEYS[1]) or '0'}
for number = 2, #KEYS do
  found[number + 2] = redis.call('HMGET', KEYS[number], $FIELDS)
end
return found
""")

LOAD = _script("""
-- KEYS: run, results.
return $CONTENTS
""")

TAKE = _script("""
-- KEYS: run, results, list of runs, token of the forgotten runs, finished runs of the name.
-- ARGV: what the record was, what the token was, whether the run begins, its place in the list,
-- then the names and values of fields.
local is = redis.call('HMGET', KEYS[1], $WAS)
for number = 1, $MANY do
  if (is[number] or '') ~= ARGV[number] then return false end
end
if not is[1] and (redis.call('GET', KEYS[4]) or '0') ~= ARGV[$MANY + 1] then return false end
if ARGV[$MANY + 2] == '1' then
  redis.call('UNLINK', KEYS[1], KEYS[2])
  redis.call('ZADD', KEYS[3], 0, ARGV[$MANY + 3])
  redis.call('ZREM', KEYS[5], KEYS[1])
end
if #ARGV > $MANY + 3 then redis.call('HSET', KEYS[1], unpack(ARGV, $MANY + 4)) end
return $CONTENTS
""")

COMMIT = _script("""$TIMES $IN_PARTS
-- KEYS: run, results, finished runs of the name.
-- ARGV: time, token, grant, seconds of the lease, sequence, whether it ends, whether there is a
-- document, the document, the sequence and the result that it builds on, how many results, their
-- numbers and values, numbers to remove.
local is = redis.call('HMGET', KEYS[1], 'token', 'grant', 'status', 'sequence', 'expires',
  'crashes', 'generation')
if is[1] ~= ARGV[2] or is[2] ~= ARGV[3] then return 1 end
local sequence, before = tonumber(ARGV[5]), tonumber(is[4])
if sequence > 0 and sequence <= before then return 0 end
if is[3] ~= 'running' or before < tonumber(ARGV[9]) then return 1 end
if ARGV[10] ~= '-1' and redis.call('HEXISTS', KEYS[2], ARGV[10]) == 0 then return 1 end
local puts, drops = {}, {}
local first_drop = 12 + 2 * tonumber(ARGV[11])
for number = 12, first_drop - 1, 2 do
  local kept = redis.call('HGET', KEYS[2], ARGV[number])
  if kept and kept ~= ARGV[number + 1] then return 2 end
  puts[#puts + 1], puts[#puts + 2] = ARGV[number], ARGV[number + 1]
end
for number = first_drop, #ARGV do drops[#drops + 1] = ARGV[number] end
local lease, ends, writes = tonumber(ARGV[4]), ARGV[6] == '1', ARGV[7] == '1'
local alone = #puts > 0 and #drops == 0 and not writes and not ends
if not (alone and is[6] == '0' and tonumber(is[5]) - now > lease * $FRESH) then
  local values = {'sequence', string.format('%.0f', math.max(sequence, before)),
    'expires', text(now + lease), 'seen', text(now), 'updated', text(wall)}
  local function set(name, value) values[#values + 1], values[#values + 2] = name, value end
  if writes or #puts > 0 then set('saved', text(now)) set('crashes', '0') end
  if writes then
    local generation = tonumber(is[7] or '0') + 1
    set('generation', string.format('%.0f', generation))
    set('document' .. generation % 2, ARGV[8])
    if ends then set('document' .. (generation + 1) % 2, ARGV[8]) end
  end
  if ends then set('status', 'done') end
  redis.call('HSET', KEYS[1], unpack(values))
end
in_parts('HSET', KEYS[2], puts)
in_parts('HDEL', KEYS[2], drops)
if ends then
  redis.call('ZADD', KEYS[3], text(wall), KEYS[1])
  $TELL
end
return 0
""")

RENEW = _script("""$TIMES
-- KEYS: runs. ARGV: time, then token, grant and seconds of the lease of each.
local renewed = {}
for number = 1, #KEYS do
  local is = redis.call('HMGET', KEYS[number], 'token', 'grant', 'status')
  local at = 3 * number - 1
  renewed[number] = 0
  if is[1] == ARGV[at] and is[2] == ARGV[at + 1] and is[3] == 'running' then renewed[number] = 1 end
end
for number = 1, #KEYS do
  if renewed[number] == 1 then
    redis.call('HSET', KEYS[number], 'expires', text(now + tonumber(ARGV[3 * number + 1])),
      'seen', text(now), 'updated', text(wall))
  end
end
return renewed
""")

RELEASE = _script("""$TIMES $IN_PARTS
-- KEYS: run, results. ARGV: time, token, grant, how it ended, the error, numbers to remove.
local is = redis.call('HMGET', KEYS[1], 'token', 'grant', 'status')
if is[1] ~= ARGV[2] or is[2] ~= ARGV[3] or is[3] ~= 'running' then return 0 end
local drops = {}
for number = 6, #ARGV do drops[#drops + 1] = ARGV[number] end
redis.call('HSET', KEYS[1], 'status', 'interrupted', 'exit', ARGV[4], 'error', ARGV[5],
  'crashes', '0', 'seen', text(now), 'updated', text(wall))
in_parts('HDEL', KEYS[2], drops)
$TELL
return 1
""")

FORGET = _script("""
-- KEYS: run, results, list of runs, token of the forgotten runs, finished runs of the name.
-- ARGV: what the record was, its place in the list.
local is = redis.call('HMGET', KEYS[1], $WAS)
for number = 1, $MANY do
  if (is[number] or '') ~= ARGV[number] then return 0 end
end
local forgotten = tonumber(redis.call('GET', KEYS[4]) or '0')
if (tonumber(is[1]) or 0) > forgotten then redis.call('SET', KEYS[4], is[1]) end
redis.call('ZREM', KEYS[3], ARGV[$MANY + 1])
redis.call('ZREM', KEYS[5], KEYS[1])
redis.call('UNLINK', KEYS[1], KEYS[2])
return 1
""")

SURPLUS = _script("""$TIMES
-- KEYS: a finished run, all of its name. ARGV: time, how many to keep, for how many seconds; either
-- may be empty. The run itself is kept, whatever the clock said when.
local found, known = {}, {[KEYS[1]] = true}
local function add(runs)
  for _, run in ipairs(runs) do
    if not known[run] then found[#found + 1] = run end
    known[run] = true
  end
end
if ARGV[2] ~= '' then
  add(redis.call('ZREVRANGE', KEYS[2], ARGV[2], -1))
end
if ARGV[3] ~= '' then
  add(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. text(wall - ARGV[3])))
end
return found
""")

SCRIPTS = (READ, LOAD, TAKE, COMMIT, RENEW, RELEASE, FORGET, SURPLUS)
