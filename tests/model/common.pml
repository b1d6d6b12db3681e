/* What all models share: processes that may be killed or stopped for ever between any two steps.
 *
 * A step is one access to shared memory with the private work around it; memory is sequentially consistent. A model
 * defines PROCS. What the dead kept in private is forgotten, so that states that differ in nothing else are one.
 * DEATHS and STOPS bound how many are struck; VICTIM(i) says who may be.
 */
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef VICTIM
#define VICTIM(i) true
#endif

bit go[PROCS] = 1;      /* still takes steps */
bit alive[PROCS] = 1;   /* a stopped process is alive */
bit swept[PROCS] = 1;   /* 0: dead, and no sweep has been finished since */
bit calm = 1;           /* 0 while who was struck forgets what it kept */
byte deaths = DEATHS, stops = STOPS;

/* A process that was struck goes to its label `dead` instead of its next step. Not `unless`: spin would then treat what
 * lies between the steps, which nobody else can see, as steps too. */
#define STEP    atomic { (!go[me] || calm) -> if :: !go[me] -> goto dead :: else ->
#define WHEN(c) atomic { (!go[me] || (calm && (c))) -> if :: !go[me] -> goto dead :: else ->
#define END     fi }
#define DEAD(forget) WHEN(false) skip; END; dead: atomic { calm = 1; forget }

active proctype killer() {
	byte i;
	do
	:: atomic { (calm && (deaths > 0 || stops > 0)) ->
		select(i : 0 .. PROCS - 1);
		if
		:: deaths > 0 && go[i] && VICTIM(i) -> deaths--; go[i] = 0; alive[i] = 0; swept[i] = 0; calm = 0
		:: stops > 0 && go[i] && VICTIM(i) -> stops--; go[i] = 0; calm = 0
		:: else
		fi;
		i = 0 }
	od
}
