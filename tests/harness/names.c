/*
 * A name service, preloaded into a server: hangs.test takes half a minute, and two.test has two addresses; nobody listens at the
 * first.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int (*Resolver)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	static Resolver real;

	if (!real)
		real = (Resolver) dlsym(RTLD_NEXT, "getaddrinfo");
	if (name && strcmp(name, "hangs.test") == 0)
	{
		sleep(30);
		return EAI_AGAIN;
	}
	if (name && strcmp(name, "two.test") == 0)
	{
		int result = real("127.0.0.9", service, hints, found);
		struct addrinfo *last = *found;

		if (result != 0)
			return result;
		while (last->ai_next)
			last = last->ai_next;
		return real("127.0.0.1", service, hints, &last->ai_next);
	}
	return real(name, service, hints, found);
}
