-- The hooks that nginx.conf names: check a request, say why one is refused, count, end with the parent.
local ffi = require "ffi"
local v2 = require "v2"
local edge = {}
local RULES = { "depth", "duplicate", "encoding", "header", "json", "length", "method", "missing", "parameter", "path", "range",
  "shape", "size", "time", "type" }

ffi.cdef "int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);"

local function count(name)
  ngx.shared.edge:incr(name, 1, 0)
end

local function answer(status, said)
  local body = '{"error":"' .. said .. '"}'
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.header["Content-Length"] = #body
  ngx.print(body)
  return ngx.exit(ngx.HTTP_OK)
end

-- Answers in the router's words: field, rule, what was found, next step; never a value.
function edge.refuse(status, field, rule, kind, step)
  count(rule)
  return answer(status, field .. ": " .. rule .. ": " .. kind .. ". Next: " .. step .. ".")
end

-- Before anything of an inference request goes on to Triton.
function edge.infer()
  count("requests")
  if ngx.req.get_method() ~= "POST" then
    return edge.refuse(405, "method", "method", "not POST", "send inference requests by POST")
  end
  local headers = ngx.req.get_headers(0)
  local encoding = headers["content-encoding"]
  if encoding and encoding ~= "identity" then
    return edge.refuse(415, "Content-Encoding", "encoding", "a body that is compressed", "send it as it is")
  end
  ngx.req.read_body()
  local found = v2.check(ngx.req.get_body_data() or "", headers["inference-header-content-length"])
  if found then return edge.refuse(400, found.field, found.rule, found.kind, found.step) end
end

-- Requests that nginx itself refuses, and those that reach no server.
function edge.unreadable()
  local status = ngx.status
  if status == 413 then return edge.refuse(413, "body", "size", "more bytes than are taken", "send fewer rows at once") end
  if status == 408 then return edge.refuse(408, "body", "time", "not sent in time", "send it at once") end
  return edge.refuse(status == 494 and 431 or status, "request", "header", "not readable as HTTP", "send HTTP/1.1")
end

function edge.away()
  count("away")
  ngx.header["Retry-After"] = "2"
  return answer(503, "serving: away: the inference server does not answer. Next: it is started again, ask again in some seconds.")
end

-- Health, metadata and figures are read.
function edge.read()
  local method = ngx.req.get_method()
  if method ~= "GET" and method ~= "HEAD" then
    return edge.refuse(405, "method", "method", "not GET", "send inference requests by POST to /v2/models/<model>/infer")
  end
end

-- Prometheus: each rule has its line from the start, so that a rise from nothing is a rise.
function edge.metrics()
  local shared, lines = ngx.shared.edge, {}
  local function add(line) lines[#lines + 1] = line end
  add "# HELP ml_platform_edge_requests_total Inference requests that reached the edge."
  add "# TYPE ml_platform_edge_requests_total counter"
  add("ml_platform_edge_requests_total " .. (shared:get("requests") or 0))
  add "# HELP ml_platform_edge_refused_total Requests refused at the edge, by rule."
  add "# TYPE ml_platform_edge_refused_total counter"
  for _, rule in ipairs(RULES) do
    add('ml_platform_edge_refused_total{rule="' .. rule .. '"} ' .. (shared:get(rule) or 0))
  end
  add "# HELP ml_platform_edge_away_total Requests answered with 503 because the server did not answer."
  add "# TYPE ml_platform_edge_away_total counter"
  add("ml_platform_edge_away_total " .. (shared:get("away") or 0))
  ngx.header["Content-Type"] = "text/plain; version=0.0.4"
  ngx.print(table.concat(lines, "\n"), "\n")
end

-- A worker whose master was killed is killed by the kernel: the edge leaves nothing behind.
function edge.end_with_parent()
  ffi.C.prctl(1, 9, 0, 0, 0) -- PR_SET_PDEATHSIG, SIGKILL
end

return edge
