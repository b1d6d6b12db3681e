/* Room in a subscription: the hint that leads to free slots, and publishers that wait for one.
 *
 * 0, 1 publish MESSAGES each and sleep when all is full; 2, 3 settle; 4 repairs. S slots that share one hint. A publisher
 * that took the hint has the slots from next to end as its own place to look; FULL is said only after a look at every
 * word. Sleep is unbounded, as in wait.pml, which is about waking; here the look is several loads.
 *
 * RETURN   a publisher may give a slot back (another subscription was full)
 * LONE     one settler
 * SETTLES  so many messages are settled, the rest stays
 * BAD_...  CLEARLATE the hint is cleared after the look at the slots; HINTONLY full is said by the hint; LOOKFIRST who
 *          frees looks for waiters before; HINTFIRST who frees sets the hint before; NOLOOK who waits does not look once
 *          its bit is set; NORING a slot that is given back wakes nobody
 */
#define PROCS 5
#ifdef LONE
#define VICTIM(i) (i < 3)
#else
#define VICTIM(i) (i < 4)
#endif
#include "common.pml"
#ifndef S
#define S 2
#endif
#ifndef MESSAGES
#define MESSAGES 2
#endif
#define FREE 0
#define NEW 1
#define READY 2
#define NOBODY 7

byte state[S], owner[S] = NOBODY;
bit hint = 1;
byte next[2], last[2];                  /* private, but for the monitor */
bit waits[2], asleep[2], unrung[2];
byte published[2];
#ifdef SETTLES
byte settles = SETTLES;
#define MAYSETTLE (settles > 0 && (state[0] == READY || state[S - 1] == READY))
#define SETTLING settles--
#else
#define MAYSETTLE (state[0] == READY || state[S - 1] == READY)
#define SETTLING skip
#endif

/* After a full fence. */
inline ring() {
	do
	:: STEP if :: waits[0] -> p = 0 :: waits[1] -> p = 1 :: else -> p = NOBODY fi; END
	   if
	   :: p == NOBODY -> break
	   :: else ->
		STEP took = waits[p]; waits[p] = 0; END
		if
		:: took ->
			STEP unrung[p] = 0; END
			STEP took = asleep[p]; asleep[p] = 0; END
			if :: took -> break :: else fi
		:: else
		fi
	   fi
	od;
	p = 0; took = 0
}
inline freed() {
	STEP took = hint; END
	if :: !took -> STEP hint = 1; END :: else fi;
	ring()
}
#define TAKE(s) if :: state[s] == FREE -> state[s] = NEW; owner[s] = me; won = 1 :: else -> won = 0 fi

proctype publisher(byte me) {
	byte k, s, p; bit won, took, more;
	do
	:: k < MESSAGES ->
reserve:
	   do
	   :: next[me] < last[me] -> STEP s = next[me]; next[me] = next[me] + 1; TAKE(s); END
		if :: won -> goto got :: else fi
	   :: else ->
		STEP won = hint; END
		if
		:: won ->
#ifdef BAD_CLEARLATE
			s = 0;
			do
			:: s < S -> STEP TAKE(s); END
				if :: won -> STEP hint = 0; END goto got :: else fi;
				s++
			:: else -> break
			od;
			STEP hint = 0; END
#else
			STEP won = hint; hint = 0; if :: won -> next[me] = 0; last[me] = S :: else fi; END
#endif
		:: else -> break
		fi
	   od;
#ifndef BAD_HINTONLY
	   s = 0;
	   do
	   :: s < S -> STEP TAKE(s); END
		if :: won -> goto got :: else fi;
		s++
	   :: else -> break
	   od;
#endif
	   s = 0;
nap:	   STEP unrung[me] = 1; END
	   STEP waits[me] = 1; END
#ifndef BAD_NOLOOK
	   STEP more = hint; END
#ifndef BAD_HINTONLY
	   do
	   :: !more && s < S -> STEP more = (state[s] == FREE); s++; END
	   :: else -> break
	   od;
	   s = 0;
#endif
#endif
	   if
	   :: !more ->
		STEP asleep[me] = unrung[me]; END
		WHEN(!asleep[me]) skip; END
	   :: else
	   fi;
	   STEP waits[me] = 0; unrung[me] = 0; END
	   more = 0;
	   goto reserve;
got:	   won = 0;
#ifdef RETURN
	   if
	   :: STEP state[s] = FREE; owner[s] = NOBODY; END
#ifdef BAD_NORING
		STEP hint = 1; END
#else
		freed();
#endif
		k++; s = 0;
		STEP published[me] = k; END
		goto over
	   :: skip
	   fi;
#endif
	   STEP state[s] = READY; owner[s] = NOBODY; END
	   k++; s = 0;
	   STEP published[me] = k; END
over:	   skip
	:: else -> break
	od;
	DEAD(k = 0; s = 0; p = 0; won = 0; took = 0; more = 0; asleep[me] = 0; unrung[me] = 0)
}

proctype settler(byte me) {
	byte s, p; bit took, any;
	do
	:: WHEN(MAYSETTLE) SETTLING;
		if :: state[0] == READY -> s = 0 :: state[S - 1] == READY -> s = S - 1 fi; state[s] = NEW; owner[s] = me; END
#ifdef BAD_LOOKFIRST
	   STEP any = (waits[0] || waits[1]); END
	   STEP state[s] = FREE; owner[s] = NOBODY; END
	   STEP hint = 1; END
	   if :: any -> ring() :: else fi;
	   any = 0;
#elif defined(BAD_HINTFIRST)
	   STEP hint = 1; END
	   STEP state[s] = FREE; owner[s] = NOBODY; END
	   ring();
#else
	   STEP state[s] = FREE; owner[s] = NOBODY; END
	   freed();
#endif
	   s = 0
	od;
	DEAD(s = 0; p = 0; took = 0; any = 0)
}

proctype repairer(byte me) {
	byte d, s, p; bit took;
	do
	:: WHEN(!(swept[0] && swept[1] && swept[2] && swept[3]))
		if :: !swept[0] -> d = 0 :: !swept[1] -> d = 1 :: !swept[2] -> d = 2 :: !swept[3] -> d = 3 fi; END
	   do
	   :: s < S ->
		STEP took = (owner[s] == d); if :: took -> state[s] = FREE; owner[s] = NOBODY :: else fi; END
		if :: took -> freed() :: else fi;
		s++
	   :: else -> break
	   od;
	   STEP unrung[0] = 0; END
	   STEP asleep[0] = 0; END
	   STEP unrung[1] = 0; END
	   STEP asleep[1] = 0; END
	   STEP swept[d] = 1; d = 0; s = 0; p = 0; took = 0; END
	od;
	DEAD(d = 0; s = 0; p = 0; took = 0)
}

#ifdef LONE
#define SETTLED go[2]
#else
#define SETTLED (go[2] || go[3])
#endif
#define SLEEPS(i) (go[i] && asleep[i])
#define MINE(i, s) (next[i] <= s && s < last[i])
active proctype monitor() {
	byte s, room;
	timeout;
	atomic {
		do
		:: s < S ->
			if :: state[s] == FREE -> room++ :: else fi;
			/* what is free can be found without a look at every word */
			assert(DEATHS + STOPS > 0 || state[s] != FREE || hint || MINE(0, s) || MINE(1, s));
			s++
		:: else -> break
		od;
		/* nobody who runs sleeps while there is room; who was stopped kept one wake-up to itself at most */
		assert(room <= STOPS || !(SLEEPS(0) || SLEEPS(1)));
#ifndef SETTLES
		assert(STOPS > 0 || !SETTLED || ((!go[0] || published[0] == MESSAGES) && (!go[1] || published[1] == MESSAGES)));
#endif
		s = 0
	}
}

init { atomic {
	run publisher(0); run publisher(1); run settler(2);
#ifndef LONE
	run settler(3);
#endif
	run repairer(4)
} }
