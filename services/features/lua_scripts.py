"""Atomic operations on the online store, in the server's Lua. Each works on keys of one slot.

A script is called by its digest. If the server does not know the digest (new, restarted, flushed), the script
is loaded once and the refused commands are sent again.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError

from services.runtime.redis_commands import Template, encode
from services.runtime.redis_pipeline import AsyncPipeline

ONE_KEY, TWO_KEYS, THREE_KEYS = 1, 2, 3

WRITE_ROW = b"""
-- KEYS: the row. ARGV: sidecar field, expected version ('' for none), seconds after which the row expires
-- ('' leaves that as it is, '0' takes it back), then fields and values.
-- Returns 1; if another version is stored, changes nothing and returns its sidecar ('' for none).
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local version = ARGV[2]
if stored then
  if version == '' or string.sub(stored, 1, #version) ~= version then return stored end
elseif version ~= '' then
  return ''
end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
if ARGV[3] == '0' then redis.call('PERSIST', KEYS[1])
elseif ARGV[3] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return 1
"""

ADVANCE = b"""
-- KEYS: progress, watermarks, their order. ARGV: generation, stage partition, expected progress ('' for
-- none), progress, then field and value of the watermark, if there is one.
-- Returns 1; if another generation or progress is stored, changes nothing and returns 0.
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[1], ARGV[2]) or '') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
if ARGV[5] then
  redis.call('HSET', KEYS[2], ARGV[5], ARGV[6])
  redis.call('ZADD', KEYS[3], ARGV[6], ARGV[5])
end
return 1
"""

BEGIN = b"""
-- KEYS: progress, watermarks, their order. ARGV: expected generation ('' for none), generation,
-- definition, start, minimum number of partitions, watermark of a partition that has not reported, '1' if
-- rows of earlier generations must be deleted.
-- Resets all progress if the stored generation is the expected one. Returns the generation stored now.
local stored = redis.call('HGET', KEYS[1], 'generation') or ''
if stored ~= ARGV[1] then return stored end
local partitions = math.max(tonumber(ARGV[5]), redis.call('HLEN', KEYS[2]))
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], 'generation', ARGV[2], 'definition', ARGV[3])
redis.call('HSET', KEYS[1], 'start', ARGV[4], 'unswept', ARGV[7])
for partition = 0, partitions - 1 do
  redis.call('HSET', KEYS[2], partition, ARGV[6])
  redis.call('ZADD', KEYS[3], ARGV[6], partition)
end
return ARGV[2]
"""

ANNOUNCE = b"""
-- KEYS: watermarks, their order. ARGV: number of partitions, watermark of one that has not reported.
-- Gives each partition a watermark unless it has one, and makes their order complete. Returns 1.
for partition = 0, tonumber(ARGV[1]) - 1 do redis.call('HSETNX', KEYS[1], partition, ARGV[2]) end
local fields = redis.call('HGETALL', KEYS[1])
for index = 1, #fields, 2 do redis.call('ZADD', KEYS[2], fields[index + 1], fields[index]) end
return 1
"""

SWEEP = b"""
-- KEYS: the row. ARGV: generation, sidecar format, then the view's fields, the sidecar first.
-- Deletes the fields if they are of an earlier generation or of another format. Returns their number.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
local stored = redis.call('HGET', KEYS[1], ARGV[3])
if not stored then return 0 end
if string.byte(stored) == tonumber(ARGV[2]) and #stored >= 11 then
  local generation = 0
  for index = 11, 4, -1 do generation = generation * 256 + string.byte(stored, index) end
  if generation >= tonumber(ARGV[1]) then return 0 end
end
return redis.call('HDEL', KEYS[1], unpack(ARGV, 3))
"""


class Script:
    """One script and its digest."""

    def __init__(self, text: bytes, keys: int) -> None:
        """Take the text and the number of its keys."""
        self.text = text
        self._head = ("EVALSHA", hashlib.sha1(text, usedforsecurity=False).hexdigest(), keys)

    def template(self, *arguments: bytes | None) -> Template:
        """Return a template for commands; None marks the keys and arguments that change."""
        return Template(*self._head, *arguments)

    def command(self, *arguments: str | bytes | int) -> bytes:
        """Encode a call with these keys and arguments."""
        return encode((*self._head, *arguments))


write_row = Script(WRITE_ROW, ONE_KEY)
advance = Script(ADVANCE, THREE_KEYS)
begin = Script(BEGIN, THREE_KEYS)
announce = Script(ANNOUNCE, TWO_KEYS)
sweep = Script(SWEEP, ONE_KEY)


async def run(pipeline: AsyncPipeline, script: Script, commands: Sequence[bytes]) -> list[Any]:
    """Run one script many times in one round trip; return its replies in order.

    Raises:
        RedisError, OSError: Some commands may not have been executed; it is safe to run all of them again.
    """
    replies = await pipeline.exchange_once(commands)
    unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        await pipeline.client.script_load(script.text)
        again = await pipeline.exchange_once([commands[index] for index in unknown])
        for index, reply in zip(unknown, again, strict=True):
            replies[index] = reply
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
