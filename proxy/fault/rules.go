package fault

// rule names the reason of the failures that it covers. Of codes and words one
// must be there; a rule without both goes by the rest alone.
type rule struct {
	reason   Reason
	on       statuses // nil for any, and for none
	codes    []string // what the code or the type is, in lower case
	words    words    // of the message, in lower case
	but      words    // that must not be there beside words
	html     bool     // for a web page only
	provider string   // for that provider only
	most     int      // bytes of the message at most: long ones speak of everything
}

// Which words count depends on what else is known. A status that says enough is
// believed; behind 400 and 422, and inside a 200, only words count that nothing
// else is said with; weak ones (a number, "timeout", "expired") where there is
// nothing but words.
var (
	strong = statuses{none, inBand, 4}
	spoken = statuses{none, inBand}
	weak   = statuses{none}
)

// Words that stand in several rules.
var (
	paymentMarks = words{"http 402", "status 402", "status: 402", "status code 402", "code 402", "code: 402", "error 402", "got 402", "got a 402",
		"returned 402", "returned a 402", "received 402", "received a 402", "^402 payment required"}
	billingHints = words{"payment required", "insufficient credit", "insufficient quota", "insufficient_quota", "insufficient balance", "credit balance", "plans & billing", "add more credits", "top up",
		"upgrade your plan + limit", "upgrade plan + limit", "current plan + limit", "subscription + limit", "billing hard limit", "hard limit reached", "maximum allowed + limit"}
	retryableLimits = words{"try again + usage limit", "try again + rate limit", "retry + usage limit", "retry + rate limit", "temporary + usage limit", "temporary + rate limit",
		"cooldown + usage limit", "cooldown + rate limit", "daily + usage limit", "daily + spend limit", "daily + spending limit", "daily + limit + reset",
		"weekly + usage limit", "weekly + spend limit", "weekly + spending limit", "weekly + limit + reset",
		"monthly + usage limit", "monthly + spend limit", "monthly + spending limit", "monthly + limit + reset",
		"organization + spend limit", "organization + limit + billing period", "organization + limit + exceeded", "organization + limit + reached", "organization + limit + exhausted",
		"workspace + spend limit", "workspace + limit + billing period", "workspace + limit + exceeded", "workspace + limit + reached", "workspace + limit + exhausted"}
	windowLimits = words{"daily limit", "weekly limit", "monthly limit", "weekly/monthly limit", "daily usage limit", "weekly usage limit", "monthly usage limit"}
	limitWords   = words{"rate limit", "rate_limit", "too many requests", "too many concurrent requests", "model_cooldown", "exceeded your current quota", "quota exceeded",
		"resource exhausted", "resource has been exhausted", "resource_exhausted", "concurrency limit reached", "concurrency limit has been reached", "throttlingexception",
		"workers_ai + quota limit exceeded", "请求过于频繁", "频率限制", "速率限制", "限流", "请求次数超过"}
	overloadWords = words{"overloaded", "model at capacity", "model is at capacity", "service unavailable + overload", "service unavailable + capacity", "service unavailable + high demand",
		"high demand", "high load", "modelnotreadyexception", "过载", "负载过高", "负载较高", "访问量过大"}
	billingWords = words{"payment required", "insufficient credit", "insufficient quota", "insufficient_quota", "insufficient balance", "insufficient account balance", "insufficient account credit",
		"insufficient account quota", "insufficient funds", "insufficient user quota", "quota is not enough", "used all available credits", "spend limit", "spending limit", "credit balance",
		"plans & billing", "requires more credits", "out of extra usage", "out of your extra usage", "draw from your extra usage", "billing hard limit", "~1311", "余额不足", "额度不足", "欠费"}
	permanentWords = words{"api key revoked", "api key has been revoked", "api key was revoked", "api key deactivated", "api key has been deactivated", "api key deleted", "api key has been deleted",
		"key has been disabled", "key has been revoked", "account has been deactivated", "account_deactivated", "not allowed for this organization"}
	authWords = words{"invalid api key", "invalid_api_key", "incorrect api key", "api key not valid", "api_key_invalid", "api key expired", "api key has expired",
		"could not authenticate api key", "could not authenticate credentials", "could not validate api key", "could not validate credentials", "no api key found", "no credentials found"}
	sessionWords = words{"session not found", "session does not exist", "session expired", "session has expired", "session is invalid", "invalid session", "no such session", "session id not found",
		"conversation not found", "conversation does not exist", "conversation expired", "conversation has expired", "conversation is invalid", "no such conversation"}
	templateWords = words{"jinja", "unexpected message role", "conversation roles must alternate", "system message must be at the beginning", "no user query found in messages",
		"conversation must start with a user message", "roles are supported"}

	billingCodes   = []string{"insufficient_quota", "insufficient_user_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error", "insufficient_balance", "insufficient_credits"}
	limitCodes     = []string{"resource_exhausted", "rate_limit", "rate_limited", "rate_limit_exceeded", "too_many_requests", "throttled", "throttling", "throttlingexception", "throttling_exception"}
	overloadCodes  = []string{"overloaded", "overloaded_error", "server_is_overloaded"}
	permanentCodes = []string{"account_deactivated", "api_key_revoked"}
)

// rules are looked through in this order; the first that covers a failure names
// it. Servers answer with statuses that mean something else: mlx_lm a 404 to all
// that fails in its model, llama.cpp and SGLang a 500 to what is wrong with the
// request, LM Studio a 200 to a path that it does not have. What they mean is in
// their words, so the rules about those come first.
var rules = [...]rule{
	// What our own decoders found in an answer.
	{reason: EmptyAnswer, on: statuses{inBand}, codes: []string{"empty_answer"}},
	{reason: Truncated, on: statuses{inBand}, codes: []string{"truncated"}},
	{reason: Malformed, on: statuses{inBand}, codes: []string{"malformed_chunk", "malformed_answer", "wrong_content_type"}},
	{reason: AnswerTooLarge, on: statuses{inBand}, codes: []string{"event_too_long", "preamble_too_large"}},

	{reason: Redirect, on: statuses{3}},

	// Azure answers 400 to what it filters, gateways 403, both also in a 200.
	{reason: ContentFilter, codes: []string{"content_filter", "content_policy_violation", "content_policy", "moderation_blocked"}},

	{reason: Loading, on: statuses{none, inBand, 4, 5}, words: words{"loading model", "model is loading", "model is currently loading", "model is still loading", "is currently loading", "failed to load model",
		"no models loaded", "no model loaded", "model not loaded", "model is not loaded", "model unloaded", "currently swapping", "server is starting"}},
	{reason: Saturated, on: statuses{500, 503}, words: words{"maximum pending requests exceeded", "request queue is full", "no slot available", "no slots available", "slot unavailable"}},

	// A base URL that is wrong, or a server without such a service. Every server
	// has its own words, and only they tell it from a model that is not there.
	{reason: NoEndpoint, words: words{"^unexpected endpoint or method"}}, // LM Studio, with status 200
	{reason: NoEndpoint, on: statuses{404}, codes: []string{"unknown_url"}, words: words{
		"=not found",          // mlx_lm, FastAPI (vLLM, SGLang), Anthropic
		"=404 page not found", // Ollama and whatever is written in Go
		"=file not found",     // llama.cpp
		"^unknown request url", "^invalid url (", "^cannot post /"}},

	// It ran out of memory and called that 404.
	{reason: ServerError, on: statuses{404}, words: words{"[metal]", "[malloc", "out of memory", "insufficient memory", "unable to allocate"}},
	{reason: Format, on: statuses{500}, words: words{"[json.exception.", "image input is not supported", "audio input is not supported"}},
	{reason: Format, on: statuses{404}, words: words{"only 'text' content type is supported", "expecting value: line", "expecting property name", "extra data: line", "unterminated string starting at"}},
	{reason: Format, on: statuses{404, 500}, words: templateWords},

	// A web server in front of the backend that has no room for such a body.
	// What makes the prompt shorter makes it go through.
	{reason: ContextOverflow, on: statuses{413}, html: true},
	{reason: HTML, html: true},

	{reason: AuthPermanent, on: statuses{401, 403}, codes: permanentCodes, words: permanentWords},
	{reason: Billing, on: statuses{401, 403}, codes: billingCodes, words: billingWords, most: proseMin},
	{reason: Billing, on: statuses{401, 403}, provider: "openrouter", words: openRouterLimits},
	{reason: Auth, on: statuses{401, 403}},

	{reason: RateLimit, on: statuses{402}, words: words{"quota + will reset", "quota + resets", "quota + refresh"}},
	{reason: Billing, on: statuses{402}, words: billingHints},
	{reason: RateLimit, on: statuses{402}, words: limitWords},
	{reason: RateLimit, on: statuses{402}, words: retryableLimits},
	{reason: Billing, on: statuses{402}},

	{reason: SessionExpired, on: statuses{404, 410}, words: sessionWords},
	{reason: ModelNotFound, on: statuses{404, 410}, codes: []string{"model_not_found"}},
	{reason: Billing, on: statuses{404, 410}, codes: billingCodes, words: billingWords, most: proseMin},
	{reason: AuthPermanent, on: statuses{404, 410}, codes: permanentCodes, words: permanentWords},
	{reason: Auth, on: statuses{404, 410}, codes: []string{"invalid_api_key"}, words: authWords},
	{reason: ModelNotFound, on: statuses{404, 410}},

	{reason: Timeout, on: statuses{408, 425}},

	// Anthropic's request_too_large is about bytes, and says so in its type.
	{reason: TooLarge, on: statuses{413}, codes: []string{"request_too_large"}},
	{reason: ContextOverflow, on: statuses{413}, words: words{"too large"}},
	{reason: TooLarge, on: statuses{413}},

	// OpenAI says by a code whether a 429 will pass or is about money.
	{reason: Billing, on: statuses{429}, codes: billingCodes, words: words{"insufficient_quota", "insufficient credit", "insufficient balance", "credit balance", "余额不足", "欠费"}, most: proseMin},
	{reason: RateLimit, on: statuses{429}},

	{reason: Overloaded, on: statuses{499, 503}, codes: overloadCodes, words: overloadWords},
	{reason: Timeout, on: statuses{499, 504}},
	{reason: NotSupported, on: statuses{501}},
	{reason: Overloaded, on: statuses{529}},
	{reason: ServerError, on: statuses{5}},

	// No status, or one that says little.
	{reason: Format, on: statuses{inBand, 4}, words: imageWords},
	{reason: Unclassified, on: weak, words: imageWords},
	{reason: SessionExpired, on: strong, codes: []string{"session_expired"}, words: sessionWords},
	{reason: ModelNotFound, on: strong, codes: []string{"model_not_found"}, words: words{"no endpoints found for", "router not found", "unknown model", "model not found", "model_not_found", "model-not-found", "modelnotfound",
		"the model + does not exist", "model not exist", "models/ + is not found", "is not a valid model id", "invalid model:", "invalid model name", "invalid model id", "invalid model '",
		"model deactivated", "model is deactivated"}, but: words{"invalid model reference"}},
	{reason: ModelNotFound, on: weak, words: words{"model + does not exist", "model: + not found", "not_found_error", "~404 + not found", "model + deprecated + upgrade to", "model + deprecated + transition to", "invalid model"},
		but: words{"invalid model reference"}},
	{reason: Billing, on: strong, codes: billingCodes},
	{reason: Billing, on: strong, provider: "openrouter", words: openRouterLimits},
	{reason: RateLimit, on: strong, words: windowLimits, but: billingWords},
	{reason: Billing, on: strong, words: windowLimits},
	{reason: RateLimit, on: strong, codes: limitCodes, words: limitWords},
	{reason: RateLimit, on: weak, words: words{"~429", "throttl", "usage limit", "~tpm", "tokens per minute", "tokens per day"}},
	{reason: Overloaded, on: spoken, codes: overloadCodes, words: overloadWords},
	{reason: Billing, on: strong, words: billingWords, most: proseMin},
	{reason: AuthPermanent, on: strong, codes: permanentCodes, words: permanentWords},
	{reason: Auth, on: strong, codes: []string{"invalid_api_key"}, words: authWords},
	{reason: Auth, on: weak, words: words{"permission_error", "invalid token", "authentication", "unauthorized", "forbidden", "access denied", "insufficient permission", "missing scope", "~expired", "~401", "~403",
		"failed to parse + token", "failed to validate + token", "~1113", "认证失败", "鉴权失败", "密钥无效", "令牌无效", "无权"}},
	{reason: ServerError, on: spoken, provider: "openrouter", words: words{"provider returned error"}},
	{reason: Reset, on: weak, codes: []string{"econnreset", "epipe"}, words: words{"connection reset", "econnreset", "~epipe"}},
	{reason: ServerError, on: spoken, words: words{"=an unknown error occurred", "an error occurred while processing", "internal server error", "internal error", "server_error", "service temporarily unavailable",
		"bad gateway", "gateway timeout", "upstream error", "upstream connect error", "http 50", "http 52", "api_error + try again", "api_error + temporar", "api_error + unavailable", "内部错误", "服务器错误"}},
	{reason: Format, on: strong, words: words{"string should match pattern", "tool_use.id", "tool_use_id", "invalid request format", "tool call id was + must be"}},
	{reason: NoDetails, on: weak, words: words{"=unknown error (no error details in response)"}},
	{reason: ConnectRefused, on: weak, codes: []string{"econnrefused"}, words: words{"econnrefused"}},
	{reason: NoRoute, on: weak, codes: []string{"enetunreach", "ehostunreach", "ehostdown", "enetreset"}, words: words{"enetunreach", "ehostunreach", "ehostdown", "enetreset", "enetdown"}},
	{reason: DNS, on: weak, codes: []string{"eai_again"}, words: words{"enotfound", "eai_again"}},
	{reason: Timeout, on: weak, codes: []string{"etimedout", "esockettimedout", "econnaborted"}, words: words{"timeout", "timed out", "service unavailable", "deadline exceeded", "connection error", "network error",
		"network request failed", "fetch failed", "socket hang up", "etimedout", "econnaborted", "without sending any chunks",
		"reason: abort", "reason: error", "reason: malformed_response", "reason: network_error", "operation was aborted", "stream closed", "stream aborted", "stream was closed",
		"=terminated", "und_err_", "=request failed", "超时", "网络错误"}},
	{reason: Address, on: weak, words: words{"^blocked hostname"}},

	{reason: Unclassified, on: statuses{400, 422}, words: words{"=", "status code (no body)", "^the backend answered + without a"}},
	{reason: Format, on: statuses{400, 422}},
	{reason: ServerError, on: statuses{inBand}},
}

// proseMin is from how many bytes on a message is prose that may speak of money
// without being about it.
const proseMin = 512

var (
	openRouterLimits = words{"key limit exceeded", "key limit reached", "key limit hit"}
	imageWords       = words{"image dimensions exceed", "image exceeds", "image size exceeds"}
)
