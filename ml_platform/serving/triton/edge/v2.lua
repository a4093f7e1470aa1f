-- What a request of KServe V2 may look like before Triton reads it. Pure: bytes in, nothing or a refusal out.
local json = require "json"
local refuse, sub = json.refuse, string.sub
local v2 = {}

local DEPTH, DIMENSIONS, TENSORS = 16, 8, 4096
local ELEMENTS = 16777216 -- of one tensor
-- Bytes of a value, and the integers that it holds; those of 64 bits are more than a double tells apart, see `EDGES`.
local TYPES = {
  BOOL = { 1 }, FP16 = { 2 }, BF16 = { 2 }, FP32 = { 4 }, FP64 = { 8 }, BYTES = {},
  INT8 = { 1, -128, 127 }, INT16 = { 2, -32768, 32767 }, INT32 = { 4, -2147483648, 2147483647 }, INT64 = { 8, -math.huge, math.huge },
  UINT8 = { 1, 0, 255 }, UINT16 = { 2, 0, 65535 }, UINT32 = { 4, 0, 4294967295 }, UINT64 = { 8, 0, math.huge },
}
local EDGES = { least = "9223372036854775808", most = "9223372036854775807", unsigned = "18446744073709551615" }
local SAID = { FP32 = true, FP64 = true, BOOL = true, BYTES = true } -- and the integers; others come as bytes only

local function wrong_type(field, what)
  refuse(field, "type", "no " .. what, "send what KServe V2 describes")
end

-- Notes which limits of 64 bits a large integer is beyond: its digits say, for a double has rounded them.
local function note_large(found, token)
  local negative = sub(token, 1, 1) == "-"
  local bare = negative and sub(token, 2) or token
  local function beyond(most) return #bare > #most or (#bare == #most and bare > most) end
  found.int64 = found.int64 or beyond(negative and EDGES.least or EDGES.most)
  found.uint64 = found.uint64 or (not negative and beyond(EDGES.unsigned))
end

local function natural(s, i, kind, field)
  local after, said, value
  if kind == json.NUMBER then after, said, value = json.number(s, i) end
  if said ~= json.INTEGER or sub(s, i, i) == "-" then wrong_type(field, "whole number of at least 0") end
  return after, value
end

local function plain_text(s, i, kind, field)
  if kind ~= json.TEXT then wrong_type(field, "text") end
  local after, escaped = json.text(s, i)
  return after, sub(s, i + 1, after - 2), escaped
end

-- Parameters are scalars; `known[name]` says what one must be. Returns the place after them, and the last whole number.
local function parameters(s, i, kind, field, known)
  if kind ~= json.OBJECT then wrong_type(field, "object") end
  local number
  local after = json.members(s, i, function(name, at, one)
    local what = known[name]
    if what == "closed" then
      refuse(field, "parameter", "a parameter that is closed to clients", "leave " .. name .. " out")
    elseif what == "natural" or (what == "text or natural" and one == json.NUMBER) then
      local following
      following, number = natural(s, at, one, field .. "." .. name)
      return following
    elseif what == "text or natural" then
      return (plain_text(s, at, one, field .. "." .. name))
    elseif what and what ~= one then
      wrong_type(field .. "." .. name, "true or false")
    elseif one == json.LIST or one == json.OBJECT or one == json.NULL then
      wrong_type(field, "text, number or bool")
    end
    return (json.scalar(s, at, one))
  end)
  return after, number
end

local function shape_of(s, i, kind, field)
  if kind ~= json.LIST then wrong_type(field .. ".shape", "list") end
  local product = 1
  local after, count = json.elements(s, i, function(at, one, place)
    if place >= DIMENSIONS then refuse(field, "shape", "too many dimensions", "send one value a row") end
    local following, value = natural(s, at, one, field .. ".shape")
    if value > ELEMENTS then refuse(field, "shape", "a dimension that is too large", "send the shape of the data") end
    product = product * value
    if product > ELEMENTS then refuse(field, "shape", "too many values", "send the shape of the data") end
    return following
  end)
  return after, product
end

-- Counts the values of a list, nested or not, and notes which kinds and which integers are among them.
local function data_of(s, i, kind, field)
  if kind ~= json.LIST then wrong_type(field .. ".data", "list") end
  local found = { count = 0, kinds = {}, least = 0, most = 0 }
  local function walk(at, one, depth)
    if one == json.LIST and depth > 0 then
      return (json.elements(s, at, function(inner, its) return walk(inner, its, depth - 1) end))
    end
    if one == json.LIST then refuse(field, "depth", "lists nested too deeply", "send a flat list") end
    if one == json.OBJECT then wrong_type(field .. ".data", "list of plain values") end
    local after, said, value = json.scalar(s, at, one)
    found.count = found.count + 1
    found.kinds[said] = true
    if said == json.INTEGER then
      if value >= 2 ^ 53 or value <= -2 ^ 53 then note_large(found, sub(s, at, after - 1)) end
      if value < found.least then found.least = value end
      if value > found.most then found.most = value end
    end
    return after
  end
  return walk(i, kind, DEPTH - 4), found
end

local function check_data(field, datatype, found)
  local allowed = { [json.BOOL] = datatype == "BOOL", [json.TEXT] = datatype == "BYTES" }
  local limits = TYPES[datatype]
  allowed[json.INTEGER] = limits[2] ~= nil or datatype == "FP32" or datatype == "FP64"
  allowed[json.NUMBER] = datatype == "FP32" or datatype == "FP64"
  if not limits[2] and not SAID[datatype] then
    refuse(field, "type", datatype .. " in JSON", "send it as bytes, by the binary extension")
  end
  for kind in pairs(found.kinds) do
    if not allowed[kind] then refuse(field, "type", "a value that is no " .. datatype, "send what the model's contract takes") end
  end
  if not limits[2] then return end
  local beyond = found.least < limits[2] or found.most > limits[3]
  if datatype == "INT64" then beyond = beyond or found.int64 end
  if datatype == "UINT64" then beyond = beyond or found.uint64 end
  if beyond then refuse(field, "range", "a number that " .. datatype .. " cannot hold", "send a smaller one") end
end

local function check_bytes(field, datatype, elements, size)
  local each = TYPES[datatype][1]
  if (each and elements * each ~= size) or (not each and elements * 4 > size) then
    refuse(field, "length", "a binary_data_size that is not that of the shape", "send the shape of the data")
  end
end

-- One tensor; returns the place after it, and how many bytes of the binary part are its own.
local function input(s, i, kind, place)
  local field = "inputs[" .. place .. "]"
  if kind ~= json.OBJECT then wrong_type(field, "object") end
  local name, datatype, elements, data, size
  local known = {
    binary_data_size = "natural", shared_memory_region = "closed", shared_memory_byte_size = "closed",
    shared_memory_offset = "closed",
  }
  local after = json.members(s, i, function(member, at, one)
    local following
    if member == "name" then
      following, name = plain_text(s, at, one, field .. ".name")
      if name:find("^[%w_.-]+$") and #name <= 64 then field = name end
    elseif member == "datatype" then
      following, datatype = plain_text(s, at, one, field .. ".datatype")
      if not TYPES[datatype] then refuse(field, "type", "no datatype of KServe V2", "send the one of the model's metadata") end
    elseif member == "shape" then
      following, elements = shape_of(s, at, one, field)
    elseif member == "data" then
      following, data = data_of(s, at, one, field)
    elseif member == "parameters" then
      following, size = parameters(s, at, one, field .. ".parameters", known)
    else
      following = json.skip(s, at, one, DEPTH - 3)
    end
    return following
  end)
  for what, value in pairs({ name = name or false, datatype = datatype or false, shape = elements or false }) do
    if value == false then refuse(field, "missing", "no " .. what, "send name, datatype and shape of each tensor") end
  end
  if (data == nil) == (size == nil) then
    refuse(field, "missing", "not one of data and binary_data_size", "send the one or the other")
  end
  if size then
    check_bytes(field, datatype, elements, size)
    return after, size
  end
  if data.count ~= elements then
    refuse(field, "shape", "another number of values than the shape says", "send the shape of the data")
  end
  check_data(field, datatype, data)
  return after, 0
end

local function inputs_of(s, i, kind)
  if kind ~= json.LIST then wrong_type("inputs", "list") end
  local size = 0
  local after, count = json.elements(s, i, function(at, one, place)
    if place >= TENSORS then refuse("inputs", "length", "too many tensors", "send those of the model's metadata") end
    local following, own = input(s, at, one, place)
    size = size + own
    return following
  end)
  if count == 0 then refuse("inputs", "missing", "no tensor", "send what the model's contract takes") end
  return after, size
end

local function outputs_of(s, i, kind)
  if kind ~= json.LIST then wrong_type("outputs", "list") end
  return (json.elements(s, i, function(at, one, place)
    local field = "outputs[" .. place .. "]"
    if place >= TENSORS then refuse("outputs", "length", "too many outputs", "ask for those of the model's metadata") end
    if one ~= json.OBJECT then wrong_type(field, "object") end
    -- The classification of an output of texts divides by zero in Triton 2.51, which ends the process.
    local known = {
      binary_data = json.BOOL, classification = "closed", shared_memory_region = "closed",
      shared_memory_byte_size = "closed", shared_memory_offset = "closed",
    }
    local named = false
    local after = json.members(s, at, function(member, value, its)
      if member == "parameters" then return (parameters(s, value, its, field .. ".parameters", known)) end
      if member ~= "name" then return json.skip(s, value, its, DEPTH - 3) end
      named = true
      return (plain_text(s, value, its, field .. ".name"))
    end)
    if not named then refuse(field, "missing", "no name", "name each output") end
    return after
  end))
end

local function walk(header, rest)
  local size
  json.object(header, function(member, at, kind)
    if member == "inputs" then
      local after
      after, size = inputs_of(header, at, kind)
      return after
    elseif member == "outputs" then
      return outputs_of(header, at, kind)
    elseif member == "id" then
      return (plain_text(header, at, kind, "id"))
    elseif member == "parameters" then
      return (parameters(header, at, kind, "parameters", {
        binary_data_output = json.BOOL, sequence_start = json.BOOL, sequence_end = json.BOOL, priority = "natural",
        timeout = "natural", sequence_id = "text or natural",
      }))
    end
    return json.skip(header, at, kind, DEPTH - 1)
  end)
  if not size then refuse("inputs", "missing", "no list of tensors", "send what the model's contract takes") end
  if size ~= rest then
    refuse("body", "length", "another number of bytes after the JSON than its tensors say", "send binary_data_size of each")
  end
end

-- nil for a request that Triton may read, else {field, rule, kind, step}.
-- body: all bytes; length: the header Inference-Header-Content-Length as it came, nil without one.
function v2.check(body, length)
  local header, rest = body, 0
  local ok, found = pcall(function()
    if #body == 0 then refuse("body", "missing", "no body", "send one JSON object of KServe V2") end
    if length ~= nil then
      local number = type(length) == "string" and length:find("^%d+$") and #length < 12 and tonumber(length)
      if not number or number == 0 or number > #body then
        refuse("Inference-Header-Content-Length", "length", "not the length of the JSON part", "send its bytes, at most those of the body")
      end
      header, rest = sub(body, 1, number), #body - number
    end
    walk(header, rest)
  end)
  if ok then return nil end
  if type(found) ~= "table" then error(found) end
  return found
end

return v2
