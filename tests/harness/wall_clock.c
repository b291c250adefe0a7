/*
 * Preloaded into a server, sets the server's wall clock and leaves the machine's alone: CLOCK_REALTIME, gettimeofday() and time()
 * are moved, every other clock is the real one (idgen counts on CLOCK_BOOTTIME, which nobody can set).
 *
 * The file named by WALL_CLOCK_FILE says how, and may be rewritten while the server runs. `version` is odd during a change.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

struct setting
{
	uint64_t version;
	int64_t offset;	  /* nanoseconds to add */
	int64_t since;	  /* CLOCK_MONOTONIC, nanoseconds, from which the drift counts */
	int64_t permille; /* 100: a tenth too fast; -1000: the clock stands still */
};

static const volatile struct setting *setting;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void
prepare(void)
{
	const char *path = getenv("WALL_CLOCK_FILE");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (!real_clock_gettime)
		real_clock_gettime = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
	if (fd < 0)
		return;
	void *map = mmap(NULL, sizeof(struct setting), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		setting = map;
}

static int64_t
read_clock(clockid_t clock)
{
	struct timespec t;

	real_clock_gettime(clock, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

static int64_t
moved(int64_t wall)
{
	for (;;)
	{
		uint64_t version = __atomic_load_n(&setting->version, __ATOMIC_ACQUIRE);
		int64_t offset = setting->offset;
		int64_t since = setting->since;
		int64_t permille = setting->permille;

		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (version % 2 == 1 || version != setting->version)
			continue;
		if (permille != 0)
			wall += (read_clock(CLOCK_MONOTONIC) - since) * permille / 1000;
		return wall + offset;
	}
}

int
clock_gettime(clockid_t clock, struct timespec *t)
{
	if (!real_clock_gettime)
		prepare();
	int result = real_clock_gettime(clock, t);

	if (result == 0 && setting && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
	{
		int64_t wall = moved(t->tv_sec * SECOND + t->tv_nsec);

		t->tv_sec = wall / SECOND;
		t->tv_nsec = wall % SECOND;
	}
	return result;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec t;
	int result = clock_gettime(CLOCK_REALTIME, &t);

	(void) zone;
	if (result == 0)
	{
		tv->tv_sec = t.tv_sec;
		tv->tv_usec = t.tv_nsec / 1000;
	}
	return result;
}

time_t
time(time_t *out)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	if (out)
		*out = t.tv_sec;
	return t.tv_sec;
}
