complete -c red-tentacle -l backends -d 'The backends, at most 64: http://a,https://b:8443/base; behind a URL may stand name=NAME, after=200ms or p95, timeout=1s, each, exact, paused; or socket=, header-file=, ca=, cert=, insecure [env: BACKEND_SERVERS]' -r -f
complete -c red-tentacle -l backends-file -d 'Where the list is kept: if it exists, it is the list; updates are written to it, SIGHUP reads it again [env: RED_TENTACLE_BACKENDS_FILE]' -r -F
complete -c red-tentacle -l success -d 'Which answers win: 200-299,304 (304 always wins a conditional request) [default: 200-299] [env: RED_TENTACLE_SUCCESS]' -r -f
complete -c red-tentacle -l final -d 'Which failures end a race and go to the client: 404,410; the quickest of them beats a slower success [env: RED_TENTACLE_FINAL]' -r -f
complete -c red-tentacle -l on-failure -d 'What a client gets if none wins: bad-gateway; best, the answer that says most; best..500ms, that soon after the first 4xx [default: bad-gateway] [env: RED_TENTACLE_ON_FAILURE]' -r -f
complete -c red-tentacle -l lose-if -d 'Which answers lose that would win, by up to 8 rules, a flag or a line each: header NAME, header NAME ~ PATTERN, body ~ PATTERN [env: RED_TENTACLE_LOSE_IF]' -r -f
complete -c red-tentacle -l win-on -d 'What an answer wins by: its head, or the first byte of its body, where comments of an event stream don\'t count [default: head] [env: RED_TENTACLE_WIN_ON]' -r -f -a "head\t''
byte\t''"
complete -c red-tentacle -l race-methods -d 'The methods that are raced, all without it; others go to one backend, whose answer is the reply: GET,HEAD [env: RED_TENTACLE_RACE_METHODS]' -r -f
complete -c red-tentacle -l linger -d 'How long losers of GET, HEAD, OPTIONS and TRACE may still finish, for their connections\' sake [default: 200ms] [env: RED_TENTACLE_LINGER]' -r -f
complete -c red-tentacle -l linger-unsafe -d 'How long losers of other methods may, so that the request reaches every backend; 0s cancels them, which costs a connection and a handshake each and favours the last winner [default: the timeout] [env: RED_TENTACLE_LINGER_UNSAFE]' -r -f
complete -c red-tentacle -l max-unanswered -d 'Losers that may wait in vain at one backend before it gets no more legs; 8 times as many if it answers others. One that hangs is asked once a second [default: 128] [env: RED_TENTACLE_MAX_UNANSWERED]' -r -f
complete -c red-tentacle -l bench -d 'Failures in a row after which a backend sits out, for 1s and then for longer; POST doesn\'t reach it either [default: off] [env: RED_TENTACLE_BENCH]' -r -f -a "off\t''"
complete -c red-tentacle -l timeout -d 'Longest time to reach a backend, and again to get its complete head [default: 5s] [env: RED_TENTACLE_TIMEOUT]' -r -f
complete -c red-tentacle -l idle-timeout -d 'Longest silence while a body moves, either way [default: 60s, or --timeout if that is longer] [env: RED_TENTACLE_IDLE_TIMEOUT]' -r -f
complete -c red-tentacle -l host -d 'Whose name the backends see in Host: their own, or the one that the client wrote [default: backend] [env: RED_TENTACLE_HOST]' -r -f -a "backend\t''
preserve\t''"
complete -c red-tentacle -l via -d 'Whether backends get Via; nginx, by default, compresses nothing for those who send it [default: off] [env: RED_TENTACLE_VIA]' -r -f -a "on\t''
off\t''"
complete -c red-tentacle -l max-idle-connections -d 'Idle connections kept for each backend, and 64 at most once half of all connections are taken; 0 keeps none [default: 512] [env: RED_TENTACLE_MAX_IDLE_CONNECTIONS]' -r -f
complete -c red-tentacle -l dns-ttl -d 'How long a name\'s addresses count; they are looked up anew before that [default: 30s] [env: RED_TENTACLE_DNS_TTL]' -r -f
complete -c red-tentacle -l ca-file -d 'More certificates to trust beside the usual roots, in PEM; read at the start alone [env: RED_TENTACLE_CA_FILE]' -r -F
complete -c red-tentacle -l listen -d 'Where clients connect [default: 0.0.0.0:8080 and, where IPv6 exists, [::]:8080] [env: RED_TENTACLE_LISTEN]' -r -f -a "off\t''"
complete -c red-tentacle -l max-head -d 'Longest request head, from 1KiB to 256KiB; longer ones get 431. A client that sends half of one holds it in memory for up to 10 s [default: 32KiB] [env: RED_TENTACLE_MAX_HEAD]' -r -f
complete -c red-tentacle -l max-body -d 'Largest request body; larger ones get 413 [default: 10MiB] [env: RED_TENTACLE_MAX_BODY]' -r -f
complete -c red-tentacle -l spool-dir -d 'Where request bodies above 64 KiB wait, in unlinked files: on a disk, since on tmpfs they take memory [default: TMPDIR, or /tmp] [env: RED_TENTACLE_SPOOL_DIR]' -r -f -a "(__fish_complete_directories)"
complete -c red-tentacle -l max-connections -d 'Most client connections at once; beyond it one that makes least of its place is closed for each new one [default: from the limits of open files and memory] [env: RED_TENTACLE_MAX_CONNECTIONS]' -r -f
complete -c red-tentacle -l trusted-proxies -d 'Proxies before this one whose X-Forwarded-* and Forwarded are believed; those of others are replaced [default: 127.0.0.0/8,::1/128] [env: RED_TENTACLE_TRUSTED_PROXIES]' -r -f -a "none\t''"
complete -c red-tentacle -l expose-backends -d 'Whether clients are told the backends\' addresses, in Proxy-Status and in a 502, or only names like b1 [default: off] [env: RED_TENTACLE_EXPOSE_BACKENDS]' -r -f -a "on\t''
off\t''"
complete -c red-tentacle -l workers -d 'Threads that begin races of many backends; they never wait for one [default: 2 per core] [env: RED_TENTACLE_WORKERS]' -r -f
complete -c red-tentacle -l tls-listen -d 'Where clients connect by HTTPS; --tls-cert goes with it [default: off] [env: RED_TENTACLE_TLS_LISTEN]' -r -f -a "off\t''"
complete -c red-tentacle -l tls-cert -d 'Certificate chain and private key in PEM, in one file or two; may be given again (in the variable: with ; in between), chosen by name, the first is the default. SIGHUP reads the files again [env: RED_TENTACLE_TLS_CERT]' -r -f
complete -c red-tentacle -l tls-client-ca -d 'Clients at --tls-listen must show a certificate that one of the authorities in this file (PEM) has signed [env: RED_TENTACLE_TLS_CLIENT_CA]' -r -F
complete -c red-tentacle -l tls-client-cert-header -d 'Whether backends are told the subject of the client\'s certificate, in X-Forwarded-Client-Cert [default: off] [env: RED_TENTACLE_TLS_CLIENT_CERT_HEADER]' -r -f -a "on\t''
off\t''"
complete -c red-tentacle -l admin-listen -d 'Where updates are taken; beyond loopback only with a token or --admin-from [default: 127.0.0.1:8081 and, where IPv6 exists, [::1]:8081] [env: RED_TENTACLE_ADMIN_LISTEN]' -r -f -a "off\t''"
complete -c red-tentacle -l admin-token-file -d 'Updates need `Authorization: Bearer` with the token in this file, from anywhere; read at the start alone [env: RED_TENTACLE_ADMIN_TOKEN_FILE]' -r -F
complete -c red-tentacle -l admin-host -d 'Names besides localhost and IP addresses that updates may have in Host [env: RED_TENTACLE_ADMIN_HOST]' -r -f
complete -c red-tentacle -l admin-from -d 'Networks besides loopback that updates may come from: 172.17.0.1,fd00::/8 [env: RED_TENTACLE_ADMIN_FROM]' -r -f
complete -c red-tentacle -l admin-on-proxy-port -d 'Whether updates are taken at --listen too; off: their paths are forwarded like any other [default: on] [env: RED_TENTACLE_ADMIN_ON_PROXY_PORT]' -r -f -a "on\t''
off\t''"
complete -c red-tentacle -l grace-period -d 'Longest time that requests in flight may still take after SIGTERM or SIGINT [default: 10s] [env: RED_TENTACLE_GRACE_PERIOD]' -r -f
complete -c red-tentacle -l log-level -d 'How much is told on standard error; info: a line per request [default: info] [env: RED_TENTACLE_LOG_LEVEL]' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c red-tentacle -l log-format -d 'The lines on standard error; json: an object each [default: text] [env: RED_TENTACLE_LOG_FORMAT]' -r -f -a "text\t''
json\t''"
complete -c red-tentacle -l try -d 'Send one GET by this configuration, print the race, exit: 0 won, 1 lost [env: RED_TENTACLE_TRY]' -r -f
complete -c red-tentacle -l health -d 'Ask this URL (or unix:PATH), or else what listens at --admin-listen, and exit: with 0 if the answer is a 2xx within 3 s, else with 1 [env: RED_TENTACLE_HEALTH]' -r -f
complete -c red-tentacle -l update -d 'Replace the backends of a running proxy by these and exit, or change them: add=URL, remove=NAME, pause=NAME, resume=NAME, all or none of several with & between them; --admin-token-file goes with it [env: RED_TENTACLE_UPDATE]' -r -f -a ""
complete -c red-tentacle -l admin -d 'Where the running proxy takes updates; or unix:PATH [default: the address of --admin-listen, or of --listen if that is off] [env: RED_TENTACLE_ADMIN]' -r -f
complete -c red-tentacle -l check -d 'Check everything, print the configuration in effect, exit [env: RED_TENTACLE_CHECK]'
complete -c red-tentacle -l probe -d 'With --check: try the addresses, ask each backend once for /, print what each answers; exit with 1 if one doesn\'t [env: RED_TENTACLE_PROBE]'
complete -c red-tentacle -l demo -d 'Race three small backends inside the program: nothing else is needed [env: RED_TENTACLE_DEMO]'
complete -c red-tentacle -s h -l help -d 'Print help'
complete -c red-tentacle -s V -l version -d 'Print version'
