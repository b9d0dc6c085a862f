// What the Lua filter of an opaque cookie runs, behind its settings: `NAMES` with an equals sign behind each, the cookie's own first,
// `ACCEPT_PLAIN` and `SERVERS`. Each letter is looked at once, whatever a client sends.

export const OPAQUE_COOKIE_TABLES = `
local byte, find, sub = string.byte, string.find, string.sub

local plain_of, opaque_of, lengths, seen = {}, {}, {}, {}
for plain, written, values in SERVERS:gmatch('(%S+) (%S+)([^\\n]*)\\n') do
  plain_of[plain] = plain
  for value in values:gmatch('%S+') do
    plain_of[value] = plain
    opaque_of[written] = opaque_of[written] or value
  end
  if not seen[#written] then
    seen[#written] = true
    lengths[#lengths + 1] = #written
  end
end
`;

/**
 * The Cookie header is read as stateful_session reads it: cookies end at semicolons alone, a name stands behind spaces alone, and
 * quotation marks may stand around a value. Of several cookies of one name the first counts.
 */
export const OPAQUE_COOKIE_ON_REQUEST = `
local SPACE, SEMICOLON, QUOTE = 32, 59, 34

local function translated(cookie, name)
  local from, last = find(cookie, name, 1, true)
  while from do
    local before, first = from - 1, last + 1
    while before > 0 and byte(cookie, before) == SPACE do before = before - 1 end
    local stop = find(cookie, ';', first, true) or #cookie + 1
    if before == 0 or byte(cookie, before) == SEMICOLON then
      local final = stop - 1
      if first < final and byte(cookie, first) == QUOTE and byte(cookie, final) == QUOTE then
        first, final = first + 1, final - 1
      end
      local plain = plain_of[sub(cookie, first, final)]
      if plain == nil then
        if ACCEPT_PLAIN then return cookie end
        plain = ''
      end
      return sub(cookie, 1, first - 1) .. plain .. sub(cookie, final + 1)
    end
    from, last = find(cookie, name, stop, true)
  end
  return cookie
end

local function of_all_names(cookie)
  for index = 1, #NAMES do cookie = translated(cookie, NAMES[index]) end
  return cookie
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local cookie = headers:get('cookie')
  if cookie == nil then return end
  -- Several lines are read as one, with commas between them.
  local count = find(cookie, ',', 1, true) and headers:getNumValues('cookie') or 1
  if count == 1 then
    local new = of_all_names(cookie)
    if new ~= cookie then headers:replace('cookie', new) end
    return
  end
  local lines = {}
  for index = 1, count do lines[index] = of_all_names(headers:getAtIndex('cookie', index - 1)) end
  headers:remove('cookie')
  for index = 1, count do headers:add('cookie', lines[index]) end
end
`;

/** A server that is not in the table yet gives no cookie, rather than one that tells its address; the next answer gives one. */
export const OPAQUE_COOKIE_ON_RESPONSE = `
local START = NAMES[1] .. '"'
local PLAIN_START = START .. 'C'

local function hidden(line)
  if sub(line, 1, #PLAIN_START) ~= PLAIN_START then return line end
  local stop = find(line, '"', #PLAIN_START, true)
  if stop == nil then return line end
  local value = sub(line, #PLAIN_START, stop - 1)
  for index = 1, #lengths do
    local opaque = opaque_of[sub(value, 1, lengths[index])]
    if opaque then return START .. opaque .. sub(line, stop) end
  end
  return nil
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local cookie = headers:get('set-cookie')
  if cookie == nil then return end
  if not find(cookie, ',', 1, true) then
    local line = hidden(cookie)
    if line == nil then headers:remove('set-cookie') elseif line ~= cookie then headers:replace('set-cookie', line) end
    return
  end
  local lines = {}
  for index = 1, headers:getNumValues('set-cookie') do
    lines[#lines + 1] = hidden(headers:getAtIndex('set-cookie', index - 1))
  end
  headers:remove('set-cookie')
  for index = 1, #lines do headers:add('set-cookie', lines[index]) end
end
`;
