-- The same decision in Envoy's Lua filter. It can't see the health of a pool: the routes' fallbacks stand in for that,
-- and the health_check filter answers the status URI.

local NAMESPACE = "site_persistence"
local EXPIRED = "DDVHSLLQ=; Path=/; Max-Age=0; HttpOnly"

-- The whole name counts, at the start of a Cookie line or after a semicolon.
local function carries(headers, text, at_start, after_semicolon)
  for index = 0, headers:getNumValues("cookie") - 1 do
    local line = headers:getAtIndex("cookie", index)
    if line:find(text, 1, true) and (line:find(at_start) or line:find(after_semicolon)) then
      return true
    end
  end
  return false
end

local function carries_west(headers)
  return carries(headers, "DDVHSLLQ=", "^[ \t]*DDVHSLLQ=", ";[ \t]*DDVHSLLQ=")
end

local function carries_east(headers)
  return carries(headers, "KVAAVROI=", "^[ \t]*KVAAVROI=", ";[ \t]*KVAAVROI=")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local is_west = carries_west(headers)
  local is_forwarded = headers:get("x-site-hop") ~= nil
  local is_east = (not is_west or is_forwarded) and carries_east(headers)

  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set(NAMESPACE, "owner", is_east and "east" or is_west and "west" or "none")
  if is_west and not is_forwarded then
    metadata:set(NAMESPACE, "decision", "forward")
    headers:replace("x-site-pool", "remote_pool")
  else
    metadata:set(NAMESPACE, "decision", is_west and not is_east and "adopt" or "local")
    if is_west then metadata:set(NAMESPACE, "expire", true) end
    headers:replace("x-site-pool", "local_pool")
  end
  handle:clearRouteCache()
end

function envoy_on_response(handle)
  if handle:streamInfo():dynamicMetadata():get(NAMESPACE).expire then
    handle:headers():add("set-cookie", EXPIRED)
  end
end
