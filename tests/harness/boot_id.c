/*
 * Preloaded into a server, makes it believe that the machine was booted again: if the file named by BOOT_ID_FILE exists, it is read
 * instead of the kernel's number of this boot.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int
open64(const char *path, int flags, ...)
{
	static int (*real_open64)(const char *, int, ...);
	const char *boot_id = getenv("BOOT_ID_FILE");
	va_list rest;

	if (!real_open64)
		real_open64 = (int (*)(const char *, int, ...)) dlsym(RTLD_NEXT, "open64");
	va_start(rest, flags);
	/* Only a call that makes a file has a mode. */
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
	va_end(rest);
	if (boot_id && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0 && access(boot_id, R_OK) == 0)
		path = boot_id;
	return real_open64(path, flags, mode);
}
