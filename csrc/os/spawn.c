#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* In the program's process, which still has this process's memory: system calls, and nothing of ours is written to. */
static void become(char *const argv[], volatile int *failed)
{
	struct sigaction plain = { .sa_handler = SIG_DFL };
	sigset_t none;
	sigemptyset(&none);
	for (int s = 1; s < NSIG; s++) sigaction(s, &plain, NULL); /* before they are let in: a handler would run in our memory */
	int null = open("/dev/null", O_RDWR);
	if (null < 0 || chdir("/") != 0) goto out;
	for (int fd = 0; fd < 3; fd++)
		if (dup2(null, fd) < 0) goto out;
	if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0) { /* before Linux 5.9 */
		long most = sysconf(_SC_OPEN_MAX);
		for (int fd = 3; fd < most; fd++) close(fd);
	}
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(argv[0], argv, environ);
out:
	*failed = errno;
}

/* vfork twice: a fork would copy the page tables of a process that may be large, and count as one for the handles. The
 * process in between starts the session, and ends. A record lock is a process's, not a descriptor's: what is closed there
 * drops none of ours. */
int mqi_spawn(char *const argv[])
{
	volatile int failed = 0;
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid_t between = vfork();
	if (between == 0) {
		setsid();
		pid_t program = vfork();
		if (program == 0) {
			become(argv, &failed);
			_exit(127);
		}
		if (program < 0) failed = errno;
		_exit(0);
	}
	int error = between < 0 ? errno : 0;
	while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR) {}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error ? error : failed;
}

char **mqi_copy_words(char *const *words)
{
	size_t n = 0, size = sizeof(char *);
	for (; words[n]; n++) size += sizeof(char *) + strlen(words[n]) + 1;
	char **copy = malloc(size), *text = (char *)(copy + n + 1);
	if (!copy) return NULL;
	for (size_t i = 0; i < n; i++) {
		copy[i] = text;
		text = stpcpy(text, words[i]) + 1;
	}
	copy[n] = NULL;
	return copy;
}

static void *aside(void *argv)
{
	mqi_spawn(argv);
	free(argv);
	return NULL;
}

/* Of the handle the thread knows nothing: it may end meanwhile. Signals are not for it: its maker's mask is its own. */
void mqi_spawn_aside(char *const argv[])
{
	char **copy = mqi_copy_words(argv);
	pthread_attr_t detached;
	pthread_t thread;
	sigset_t all, before;
	if (!copy || pthread_attr_init(&detached) != 0) {
		free(copy);
		return;
	}
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&thread, &detached, aside, copy);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&detached);
	if (error) aside(copy);
}
