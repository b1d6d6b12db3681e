/* Starting a program that is nobody's child. */
#ifndef MQI_SPAWN_H
#define MQI_SPAWN_H

/* argv[0] is a path; argv ends with NULL. The program has a session of its own, /dev/null for its three descriptors, no
 * other one, / as its directory and no signal ignored or blocked. It is the init process's child at once: its end is not
 * this process's business. 0, or errno. Takes as long as an exec. */
int mqi_spawn(char *const argv[]);

#endif
