"""What runs inside Redis: each script is one step that happens whole or not at all, and costs one round trip.

KEYS[1] is the prefix of every key of a state. Under it:

    format              the version of this layout
    user:ID             sorted set of a user's events: score the timestamp, member the number of arrival and the rest as JSON
    users               sorted set of the ids of users with events, all of score 0: they can be walked in order
    ids                 hash from event_id to the digest of its event: what makes sending again safe, and counts
    seq                 the number of the event that arrived last
    forgotten, secret   SHA-1 of secret and user_id of whoever was forgotten
    disk                there if something was deleted on request that the server's own files still hold
    items, item_versions, version    changes of items: hash from item to JSON, sorted set from item to version
    model               hash: model (JSON of name, fingerprint, configured, previous), version
    prune               hash: cursor (the last user of the last slice), ended (when the last round did)

An event's member is sixteen digits and a JSON list ``[item_id, timestamp, clicked, session_id, event_id]``.
"""

from __future__ import annotations

# Events are looked at before any is written: a script that fails half-way would leave what it wrote.
APPEND = """
local p, fresh, digests = KEYS[1], {}, {}
for i = 1, #ARGV, 5 do
  local id, digest = ARGV[i], ARGV[i + 1]
  local stored = digests[id] or redis.call('HGET', p .. 'ids', id)
  if not stored then
    digests[id] = digest
    fresh[#fresh + 1] = i
  elseif stored ~= digest then
    return {-1, (i - 1) / 5}
  end
end
local seq = redis.call('INCRBY', p .. 'seq', #fresh) - #fresh
for n, i in ipairs(fresh) do
  local id, digest, user, timestamp, rest = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  redis.call('ZADD', p .. 'user:' .. user, timestamp, string.format('%016.0f', seq + n) .. rest)
  redis.call('ZADD', p .. 'users', 0, user)
  redis.call('HSET', p .. 'ids', id, digest)
end
return {#fresh, #ARGV / 5 - #fresh}
"""

EVENTS_OF = """
local p, user, before, newest = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local found = redis.call('ZREVRANGEBYSCORE', p .. 'user:' .. user, '(' .. before, '-inf', 'LIMIT', 0, newest)
local secret = redis.call('GET', p .. 'secret')
local forgotten = secret and redis.call('SISMEMBER', p .. 'forgotten', redis.sha1hex(secret .. user)) or 0
return {found, forgotten}
"""

DELETE = """
local p, user, deleted = KEYS[1], ARGV[1], 0
for i = 2, #ARGV do
  if redis.call('ZREM', p .. 'user:' .. user, ARGV[i]) == 1 then
    redis.call('HDEL', p .. 'ids', cjson.decode(string.sub(ARGV[i], 17))[5])
    deleted = deleted + 1
  end
end
if redis.call('EXISTS', p .. 'user:' .. user) == 0 then redis.call('ZREM', p .. 'users', user) end
return deleted
"""

FORGET = """
local p, user, new_secret = KEYS[1], ARGV[1], ARGV[2]
redis.call('SET', p .. 'secret', new_secret, 'NX')
redis.call('SADD', p .. 'forgotten', redis.sha1hex(redis.call('GET', p .. 'secret') .. user))
local found = redis.call('ZRANGE', p .. 'user:' .. user, 0, -1)
for _, event in ipairs(found) do redis.call('HDEL', p .. 'ids', cjson.decode(string.sub(event, 17))[5]) end
redis.call('DEL', p .. 'user:' .. user)
redis.call('ZREM', p .. 'users', user)
redis.call('SET', p .. 'disk', 1)
return #found
"""

NEXT_USERS = """
local p, now, round, slice = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local cursor = redis.call('HGET', p .. 'prune', 'cursor') or ''
local ended = redis.call('HGET', p .. 'prune', 'ended')
if cursor == '' and ended and now - tonumber(ended) < round then return {} end
local users = redis.call('ZRANGEBYLEX', p .. 'users', '(' .. cursor, '+', 'LIMIT', 0, slice)
if #users == slice then
  redis.call('HSET', p .. 'prune', 'cursor', users[slice])
else
  redis.call('HSET', p .. 'prune', 'cursor', '', 'ended', ARGV[1])
end
return users
"""

CHANGE_ITEMS = """
local p = KEYS[1]
for i = 1, #ARGV, 2 do
  local version = redis.call('INCR', p .. 'version')
  redis.call('ZADD', p .. 'item_versions', version, ARGV[i])
  redis.call('HSET', p .. 'items', ARGV[i], ARGV[i + 1])
end
"""

ITEM_CHANGES = """
local p, changes = KEYS[1], {}
for n, item in ipairs(redis.call('ZRANGEBYSCORE', p .. 'item_versions', '(' .. ARGV[1], '+inf')) do
  changes[n] = redis.call('HGET', p .. 'items', item)
end
return {redis.call('GET', p .. 'version') or 0, changes}
"""

ACTIVATE = """
local p = KEYS[1]
local version = redis.call('INCR', p .. 'version')
redis.call('HSET', p .. 'model', 'model', ARGV[1], 'version', version)
"""
