-- A strict reader of JSON that builds nothing: it walks over the bytes and calls back at what a rule asks about.
--
-- Two readers that understand one text differently are the hole in any check before a server. So this one takes only
-- what every reader reads alike: no member twice, no escape in a member's name, no NaN, nothing after the end.
local byte, sub = string.byte, string.sub
local json = {}

json.INTEGER, json.NUMBER, json.TEXT, json.BOOL, json.NULL, json.LIST, json.OBJECT = 1, 2, 3, 4, 5, 6, 7

-- Ends the walk; whoever began it catches the table.
function json.refuse(field, rule, kind, step)
  error({ field = field, rule = rule, kind = kind, step = step })
end

local function unreadable(kind)
  json.refuse("body", "json", kind, "send one JSON object of KServe V2")
end

local function space(s, i)
  local c = byte(s, i)
  while c == 32 or c == 10 or c == 13 or c == 9 do
    i = i + 1
    c = byte(s, i)
  end
  return i, c
end

local function code(s, i)
  local digits = sub(s, i, i + 3)
  if not digits:find("^%x%x%x%x$") then unreadable("a text with an escape that is none") end
  return tonumber(digits, 16)
end

local PLAIN = { [34] = true, [92] = true, [47] = true, [98] = true, [102] = true, [110] = true, [114] = true, [116] = true }

local function escape(s, i)
  local c = byte(s, i + 1)
  if PLAIN[c] then return i + 2 end
  if c ~= 117 then unreadable("a text with an escape that is none") end
  local unit = code(s, i + 2)
  if unit < 0xD800 or unit > 0xDFFF then return i + 6 end
  local low = unit < 0xDC00 and sub(s, i + 6, i + 7) == "\\u" and code(s, i + 8) or 0
  if low < 0xDC00 or low > 0xDFFF then unreadable("a text with half of a character") end
  return i + 12
end

-- From its opening quote: the place after it, and whether it holds escapes.
function json.text(s, i)
  local escaped = false
  i = i + 1
  while true do
    local c = byte(s, i)
    if c == 34 then
      return i + 1, escaped
    elseif c == 92 then
      escaped = true
      i = escape(s, i)
    elseif not c or c < 32 then
      unreadable("a text that does not end")
    else
      i = i + 1
    end
  end
end

local function digits(s, i)
  local first, value, c = i, 0, byte(s, i)
  while c and c >= 48 and c <= 57 do
    value = value * 10 + (c - 48)
    i = i + 1
    c = byte(s, i)
  end
  if i == first then unreadable("a number that is none") end
  return i, c, value
end

local function exponent(s, i, whole)
  local sign = byte(s, i)
  if sign == 43 or sign == 45 then i = i + 1 end
  local after, _, power = digits(s, i)
  if sign ~= 45 and whole + power > 308 then json.refuse("body", "range", "a number beyond float64", "send a smaller one") end
  return after
end

-- The place after a number, its kind and, of an integer, its value (a double: exact up to 2^53).
function json.number(s, i)
  local negative = byte(s, i) == 45
  local first = negative and i + 1 or i
  local after, c, value = digits(s, first)
  if after - first > 1 and byte(s, first) == 48 then unreadable("a number that begins with 0") end
  if after - first > 308 then json.refuse("body", "range", "a number beyond float64", "send a smaller one") end
  local kind, whole = json.INTEGER, after - first
  if c == 46 then
    kind = json.NUMBER
    after, c = digits(s, after + 1)
  end
  if c == 101 or c == 69 then
    kind = json.NUMBER
    after = exponent(s, after + 1, whole)
  end
  return after, kind, negative and -value or value
end

local function word(s, i, said)
  if sub(s, i, i + #said - 1) ~= said then unreadable("a value that is none") end
  return i + #said
end

-- What begins at the place after white space: that place, and the kind.
function json.peek(s, i)
  local at, c = space(s, i)
  if c == 34 then return at, json.TEXT end
  if c == 123 then return at, json.OBJECT end
  if c == 91 then return at, json.LIST end
  if c == 116 or c == 102 then return at, json.BOOL end
  if c == 110 then return at, json.NULL end
  if c == 45 or (c and c >= 48 and c <= 57) then return at, json.NUMBER end
  unreadable(c and "a value that is none" or "a text that ends too early")
end

-- A value without parts: the place after it, its kind and, of an integer, its value.
function json.scalar(s, i, kind)
  if kind == json.TEXT then return json.text(s, i), kind end
  if kind == json.NUMBER then return json.number(s, i) end
  if kind == json.NULL then return word(s, i, "null"), kind end
  return word(s, i, byte(s, i) == 116 and "true" or "false"), kind
end

-- Walks over a list; `each(i, kind, number)` returns the place after its value.
function json.elements(s, i, each)
  local at, c = space(s, i + 1)
  if c == 93 then return at + 1, 0 end
  local count = 0
  while true do
    local value, kind = json.peek(s, at)
    at, c = space(s, each(value, kind, count))
    count = count + 1
    if c == 93 then return at + 1, count end
    if c ~= 44 then unreadable("a list that does not end") end
    at = at + 1
  end
end

-- Walks over an object; `each(name, i, kind)` returns the place after the member's value.
function json.members(s, i, each)
  local at, c = space(s, i + 1)
  if c == 125 then return at + 1 end
  local seen = {}
  while true do
    if c ~= 34 then unreadable("an object without a member's name") end
    local after, escaped = json.text(s, at)
    local name = sub(s, at + 1, after - 2)
    if escaped then json.refuse("body", "json", "a member's name with an escape", "write names of members plainly") end
    if seen[name] then json.refuse("body", "duplicate", "a member that is there twice", "send each member once") end
    seen[name] = true
    at, c = space(s, after)
    if c ~= 58 then unreadable("a member without a value") end
    local value, kind = json.peek(s, at + 1)
    at, c = space(s, each(name, value, kind))
    if c == 125 then return at + 1 end
    if c ~= 44 then unreadable("an object that does not end") end
    at, c = space(s, at + 1)
  end
end

-- Any value that no rule asks about; `depth` levels of lists and objects may be in it.
function json.skip(s, i, kind, depth)
  if kind ~= json.LIST and kind ~= json.OBJECT then return (json.scalar(s, i, kind)) end
  if depth == 0 then json.refuse("body", "depth", "lists and objects nested too deeply", "send what KServe V2 describes") end
  if kind == json.LIST then
    return (json.elements(s, i, function(at, one) return json.skip(s, at, one, depth - 1) end))
  end
  return json.members(s, i, function(_, at, one) return json.skip(s, at, one, depth - 1) end)
end

-- The whole text is one object.
function json.object(s, each)
  local at, kind = json.peek(s, 1)
  if kind ~= json.OBJECT then unreadable("no object") end
  at = space(s, json.members(s, at, each))
  if at <= #s then unreadable("something after the object") end
end

return json
