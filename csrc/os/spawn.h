/* Starting a program that is nobody's child. */
#ifndef MQI_SPAWN_H
#define MQI_SPAWN_H

/* argv[0] is a path; argv ends with NULL. The program has a session of its own, /dev/null for its three descriptors, no
 * other one, / as its directory and no signal ignored or blocked. It is the init process's child at once: its end is not
 * this process's business. 0, or errno. Takes as long as an exec. */
int mqi_spawn(char *const argv[]);
/* The same without waiting for the exec, which takes a millisecond, and hundreds of them where others want the
 * processors: a thread that ends with it does the waiting. argv need not stay; what fails shows by nothing coming. */
void mqi_spawn_aside(char *const argv[]);
char **mqi_copy_words(char *const *words); /* one block, for free; NULL: no memory */

#endif
