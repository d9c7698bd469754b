-- Races the backends of one request with light threads over cosockets.
-- First 2xx wins and is streamed; the losers are killed (their sockets close),
-- non-2xx replies are drained so that their connections stay in the pool.
local spawn, wait, kill = ngx.thread.spawn, ngx.thread.wait, ngx.thread.kill
local tcp = ngx.socket.tcp
local concat, find, sub, lower, match = table.concat, string.find, string.sub, string.lower, string.match
local CONNECT, TIMEOUT, IDLE, POOL = 5000, 5000, 60000, 512
local CHUNK = 65536

local M = { backends = {} }

function M.set(list)
  local out = {}
  for b in string.gmatch(list, "[^,%s]+") do
    local tls = sub(b, 1, 8) == "https://"
    b = b:gsub("^https?://", ""):gsub("/+$", "")
    local host, port, prefix = b:match("^([^:/]+):?(%d*)(.*)$")
    out[#out + 1] = { host = host, port = tonumber(port ~= "" and port or tls and "443" or "80"), tls = tls,
      prefix = prefix, hosthdr = host .. (port ~= "" and ":" .. port or ""),
      opts = { pool = b, pool_size = POOL } }
  end
  M.backends = out
end

local HOP = { connection = true, ["keep-alive"] = true, ["proxy-authenticate"] = true,
  ["proxy-authorization"] = true, te = true, trailer = true, ["transfer-encoding"] = true,
  upgrade = true, expect = true }
local SKIP_REQ = { host = true, ["content-length"] = true }

-- Reads n bytes, giving each piece to sink.
local function exactly(sock, n, sink)
  while n > 0 do
    local k = n < CHUNK and n or CHUNK
    local d, e = sock:receive(k)
    if not d then return nil, e end
    if sink then sink(d) end
    n = n - k
  end
  return true
end

-- Reads a chunked body, giving each piece to sink. Leaves the socket after the last CRLF.
local function chunked(sock, sink)
  while true do
    local line, err = sock:receive("*l")
    if not line then return nil, err end
    local n = tonumber(match(line, "^%x+"), 16)
    if not n then return nil, "bad chunk" end
    if n == 0 then
      repeat
        line, err = sock:receive("*l")
        if not line then return nil, err end
      until line == ""
      return true
    end
    local ok, e = exactly(sock, n, sink)
    if not ok then return nil, e end
    sock:receive(2)
  end
end

local function read_body(sock, r, sink, method)
  local st = r.status
  if method == "HEAD" or st == 204 or st == 304 then return true end
  if r.chunked then return chunked(sock, sink) end
  local n = r.length
  if n then
    return exactly(sock, n, sink)
  end
  r.close = true
  while true do
    local d, e, part = sock:receiveany(CHUNK)
    if not d then return e == "closed" or nil end
    if sink then sink(d) end
  end
end

local function exchange(be, method, uri, hdr, body)
  local sock = tcp()
  sock:settimeouts(CONNECT, TIMEOUT, TIMEOUT)
  local ok, err = sock:connect(be.host, be.port, be.opts)
  if not ok then return nil, nil, err end
  local fresh = sock:getreusedtimes() == 0
  if fresh and be.tls then
    -- It can't check a certificate for an IP address, as the bench's backends have.
    ok, err = sock:sslhandshake(false, nil, false)
    if not ok then sock:close() return nil, nil, err end
  end
  local n
  n, err = sock:send({ method, " ", be.prefix, uri, " HTTP/1.1\r\nHost: ", be.hosthdr, "\r\n", hdr, body })
  if not n then sock:close() return nil, nil, err, not fresh end
  local head = sock:receiveuntil("\r\n\r\n")
  local h
  h, err = head()
  if not h then sock:close() return nil, nil, err, not fresh and err == "closed" end
  local status = tonumber(match(h, "^HTTP/1%.%d (%d%d%d)"))
  if not status then sock:close() return nil, nil, "bad status" end
  local r = { status = status, names = {}, values = {} }
  local names, values, k = r.names, r.values, 0
  local pos = find(h, "\n", 1, true)
  while pos do
    local nl = find(h, "\n", pos + 1, true)
    local colon = find(h, ":", pos + 1, true)
    if not colon then break end
    local name = sub(h, pos + 1, colon - 1)
    local e = nl and nl - 2 or #h
    local s = colon + 1
    if h:byte(s) == 32 then s = s + 1 end
    local value = sub(h, s, e)
    local l = lower(name)
    if l == "content-length" then r.length = tonumber(value)
    elseif l == "transfer-encoding" then r.chunked = find(lower(value), "chunked", 1, true) ~= nil
    elseif l == "connection" then r.close = lower(value) == "close" end
    if not HOP[l] then k = k + 1; names[k] = name; values[k] = value end
    pos = nl
  end
  return sock, r
end

local function finish(sock, r)
  if r.close then sock:close() else sock:setkeepalive(IDLE, POOL) end
end

local function attempt(i, be, method, uri, hdr, body)
  local sock, r, err, retry = exchange(be, method, uri, hdr, body)
  if not sock and retry then
    sock, r, err = exchange(be, method, uri, hdr, body) -- the pooled connection had gone stale
  end
  if not sock then return i end
  if r.status < 200 or r.status > 299 then
    if read_body(sock, r, nil, method) then finish(sock, r) else sock:close() end
    return i
  end
  return i, sock, r
end

function M.run()
  local method, uri = ngx.req.get_method(), ngx.var.request_uri
  ngx.req.read_body()
  local body = ngx.req.get_body_data()
  if not body then
    local f = ngx.req.get_body_file()
    if f then local fh = io.open(f, "rb"); body = fh:read("*a"); fh:close() end
  end
  if method == "POST" and uri == "/_backends" then
    M.set(body or "")
    return ngx.exit(204)
  end
  local parts, n = {}, 0
  for k, v in pairs(ngx.req.get_headers(100, true)) do
    local l = lower(k)
    if not HOP[l] and not SKIP_REQ[l] then
      if type(v) == "table" then
        for _, x in ipairs(v) do n = n + 1; parts[n] = k .. ": " .. x .. "\r\n" end
      else
        n = n + 1; parts[n] = k .. ": " .. tostring(v) .. "\r\n"
      end
    end
  end
  if body or method == "POST" or method == "PUT" then
    n = n + 1; parts[n] = "Content-Length: " .. (body and #body or 0) .. "\r\n"
  end
  parts[n + 1] = "\r\n"
  local hdr = concat(parts)
  body = body or ""
  local bes = M.backends
  local nb = #bes
  local sock, r, _
  if nb == 1 then
    _, sock, r = attempt(1, bes[1], method, uri, hdr, body)
  else
    local live, id = {}, {}
    for i = 1, nb do
      live[i] = spawn(attempt, i, bes[i], method, uri, hdr, body)
      id[i] = i
    end
    while #live > 0 do
      local ok, i, s, rr = wait(unpack(live))
      if not ok then break end
      for j = 1, #live do
        if id[j] == i then table.remove(live, j); table.remove(id, j); break end
      end
      if s then
        sock, r = s, rr
        break
      end
    end
    for j = 1, #live do kill(live[j]) end
  end
  if not sock then
    ngx.status = 502
    ngx.header["Content-Length"] = 20
    ngx.print("no backend answered\n")
    return
  end
  ngx.status = r.status
  local out = ngx.header
  local names, values = r.names, r.values
  for k = 1, #names do
    local name = names[k]
    local old = lower(name) == "set-cookie" and out[name]
    if old then
      if type(old) ~= "table" then old = { old } end
      old[#old + 1] = values[k]
      out[name] = old
    else
      out[name] = values[k]
    end
  end
  local big = not r.length or r.length > CHUNK
  local sent = 0
  local ok = read_body(sock, r, function(d)
    ngx.print(d)
    if big then
      sent = sent + #d
      if sent >= 524288 then sent = 0; ngx.flush(true) end
    end
  end, method)
  if ok then finish(sock, r) else sock:close(); return ngx.exit(ngx.ERROR) end
end

return M
