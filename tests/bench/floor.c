/*
 * The least that a call can cost: C functions that do parts of the work of idgen_next() and keep none of its promises.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(bench_empty);
PG_FUNCTION_INFO_V1(bench_clock);
PG_FUNCTION_INFO_V1(bench_exchange);
PG_FUNCTION_INFO_V1(bench_floor);

/* One word that all sessions share: mapped from a file in the data directory. */
static uint64 *word;

static void
attach(void)
{
	char		path[MAXPGPATH];
	void	   *page = MAP_FAILED;
	int			fd;

	snprintf(path, sizeof path, "%s/bench_floor", DataDir);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd >= 0 && ftruncate(fd, 4096) == 0)
		page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		ereport(ERROR, errmsg("could not map \"%s\": %m", path));
	close(fd);
	word = page;
}

static inline uint64
boot_microseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static inline uint64
exchange(uint64 at)
{
	uint64		last;
	uint64		next;

	if (unlikely(word == NULL))
		attach();
	last = __atomic_load_n(word, __ATOMIC_ACQUIRE);
	do
		next = at > last ? at : last + 1;
	while (!__atomic_compare_exchange_n(word, &last, next, true, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
	return next;
}

Datum
bench_empty(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(1);
}

Datum
bench_clock(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(boot_microseconds());
}

Datum
bench_exchange(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(exchange(0));
}

Datum
bench_floor(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(exchange(boot_microseconds() << 12));
}
