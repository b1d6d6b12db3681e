/* Sleeping and waking: a bell (futex word) per peer, a bitmap of waiters per subscription.
 *
 * 0, 1 publish MESSAGES each; 2, 3 (and 4) receive; 5 repairs. `avail` stands for the messages that can be claimed.
 * Sleep is unbounded here, though a nap ends after 50 ms: what is shown does not lean on the bound, but for a process
 * that is stopped while it wakes or is woken: it keeps one wake-up to itself, never the next.
 *
 * THIRD    a third receiver
 * ONE      one publisher
 * LEAVE    so many sleepers may give up (time-out, signal)
 * BUSY     who got a message may never come back for another
 * BATCH    a publisher links all its messages, then wakes once
 * THREADS  a third receiver, a thread of the second one's peer: one bell, one bit, a count of sleepers
 * OTHER    such a thread that waits for something else
 * BAD_...  RINGFIRST the bit is cleared after the bell has rung; SEENLATE the bell is read after the look; NOLOOK no look
 *          once the bit is set; LOOKFIRST the publisher looks at the bits before it links; NOCHAIN who was woken wakes
 *          nobody; ONEBIT the waker does not go on where nobody slept; NOREPAIR the repairer wakes nobody; WAKEONE one
 *          thread of the bell is woken; ONECOUNT one count of sleepers for all that a peer waits for; CLEARALL the first
 *          thread to leave clears the bit
 */
#define PROCS 6
#if defined(THREADS) || defined(OTHER)
#define MORTAL 3        /* a peer's threads die together: who has two of them lives */
#elif defined(THIRD)
#define MORTAL 5
#else
#define MORTAL 4
#endif
#ifdef ONE
#define VICTIM(i) (i != 1 && i < MORTAL)        /* who is not there cannot forget, and nobody would go on */
#else
#define VICTIM(i) (i < MORTAL)
#endif
#include "common.pml"
#ifndef MESSAGES
#define MESSAGES 1
#endif
#if defined(THREADS) || defined(OTHER)
#define SHARED
#define PEER(i) (i == 4 -> 3 : i)
#define FELLOW(i) (i == 4 -> 3 : (i == 3 -> 4 : i))
#else
#define PEER(i) i
#define FELLOW(i) i
#endif

byte avail;
bit holds[PROCS];       /* a lease: the repairer gives it back */
bit waits[PROCS];       /* the bitmap, by peer */
bit asleep[PROCS];      /* in the futex; a stopped or dead process is not: the signal took it out */
bit unrung[PROCS];      /* the bell is what this thread saw. Stands for comparing two counters */
#ifdef LEAVE
byte leaves = LEAVE;
#endif
byte sleepers;          /* of the shared peer, for this subscription (BAD_ONECOUNT: for all) */

#ifdef BAD_RINGFIRST
#define TAKE(p) took = waits[p]
#define RUNG(p) STEP waits[p] = 0; END
#else
#define TAKE(p) took = waits[p]; waits[p] = 0
#define RUNG(p) skip
#endif
#ifdef BAD_WAKEONE
#define FUTEX_WAKE(p) if :: asleep[p] -> asleep[p] = 0; woke = 1 \
	:: asleep[FELLOW(p)] -> asleep[FELLOW(p)] = 0; woke = 1 :: else fi
#else
#define FUTEX_WAKE(p) woke = (asleep[p] || asleep[FELLOW(p)]); asleep[p] = 0; asleep[FELLOW(p)] = 0
#endif
#ifdef BAD_ONEBIT
#define ENOUGH true
#else
#define ENOUGH woke
#endif

/* After a full fence: take bits, one after the other, until a sleeper was woken. */
inline wake() {
	do
	:: STEP if :: waits[2] -> p = 2 :: waits[3] -> p = 3 :: waits[4] -> p = 4 :: else -> p = 0 fi; END
	   if
	   :: p == 0 -> break
	   :: else ->
		STEP TAKE(p); END
		if
		:: took ->
			STEP unrung[p] = 0; unrung[FELLOW(p)] = 0; END
			STEP FUTEX_WAKE(p); END
			RUNG(p);
			if :: ENOUGH -> break :: else fi
		:: else
		fi
	   fi
	od;
	p = 0; took = 0; woke = 0
}

proctype publisher(byte me) {
	byte k, p; bit took, woke, any;
	do
	:: k < MESSAGES ->
#ifdef BAD_LOOKFIRST
		STEP any = (waits[2] || waits[3] || waits[4]); END
		STEP avail++; END
		if :: any -> wake() :: else fi;
		any = 0;
#elif defined(BATCH)
		STEP avail++; END
		if :: k == MESSAGES - 1 -> wake() :: else fi;
#else
		STEP avail++; END
		wake();
#endif
		k++
	:: else -> break
	od;
	DEAD(k = 0; p = 0; took = 0; woke = 0; any = 0)
}

#define LOOK more = (avail > 0)
proctype consumer(byte me) {
	byte p; bit took, woke, woken, more, left;
receive:
	STEP if :: avail > 0 -> avail--; holds[me] = 1; more = 1 :: else -> more = 0 fi; END
	if
	:: more ->
		more = 0;
#ifndef BAD_NOCHAIN
		if
		:: woken -> STEP LOOK; END
			if :: more -> wake() :: else fi
		:: else
		fi;
#endif
		woken = 0; more = 0;
		STEP holds[me] = 0; END
#ifdef BUSY
		if :: goto away :: skip fi;
#endif
		goto receive
	:: else
	fi;
#ifdef SHARED
	if :: me >= 3 -> STEP sleepers++; END :: else fi;
#endif
nap:
#ifndef BAD_SEENLATE
	STEP unrung[me] = 1; END
#endif
	STEP waits[PEER(me)] = 1; END                  /* then a full fence */
#ifndef BAD_NOLOOK
	STEP LOOK; END
#endif
#ifdef BAD_SEENLATE
	STEP unrung[me] = 1; END
#endif
	if
	:: !more ->
		STEP asleep[me] = unrung[me]; END
		if
		:: WHEN(!asleep[me]) skip; END
#ifdef LEAVE
		:: WHEN(asleep[me] && leaves > 0) leaves--; asleep[me] = 0; left = 1; END
#endif
		fi;
		STEP LOOK; unrung[me] = 0; END
	:: else
	fi;
	if :: !more && !left -> goto nap :: else fi;
#ifdef SHARED
	if
	:: me >= 3 -> STEP sleepers--;
#ifdef BAD_CLEARALL
		waits[3] = 0;
#else
		if :: sleepers == 0 -> waits[3] = 0 :: else fi;
#endif
		END
	:: else -> STEP waits[me] = 0; END
	fi;
#else
	STEP waits[me] = 0; END
#endif
	if :: !more -> STEP LOOK; END :: else fi;      /* who took my bit counts on me */
	left = 0; unrung[me] = 0;
	if :: more -> woken = 1; more = 0; goto receive :: else fi
away:	skip;
	DEAD(p = 0; took = 0; woke = 0; woken = 0; more = 0; left = 0; asleep[me] = 0; unrung[me] = 0)
}

/* A thread of peer 3 that waits for what never happens. */
proctype stranger(byte me) {
#ifdef BAD_ONECOUNT
	STEP sleepers++; END
#endif
	do
	:: STEP unrung[me] = 1; END
	   STEP asleep[me] = unrung[me]; END
	   WHEN(!asleep[me]) unrung[me] = 0; END
	od;
	DEAD(asleep[me] = 0; unrung[me] = 0)
}

proctype repairer(byte me) {
	byte d, p; bit woke;
	do
	:: WHEN(!(swept[0] && swept[1] && swept[2] && swept[3] && swept[4]))
		if :: !swept[0] -> d = 0 :: !swept[1] -> d = 1 :: !swept[2] -> d = 2 :: !swept[3] -> d = 3 :: !swept[4] -> d = 4 fi; END
	   STEP if :: holds[d] -> holds[d] = 0; avail++ :: else fi; END
#ifndef BAD_NOREPAIR
	   p = 2;
	   do
	   :: p < 5 ->
		STEP unrung[p] = 0; END
		STEP FUTEX_WAKE(p); END
		p++
	   :: else -> break
	   od;
#endif
	   STEP swept[d] = 1; d = 0; p = 0; woke = 0; END
	od;
	DEAD(d = 0; p = 0; woke = 0)
}

#define SLEEPS(i) (go[i] && asleep[i])
active proctype monitor() {
	timeout;
	/* nobody who runs sleeps while a message waits; who was stopped kept one wake-up to itself at most */
#ifdef OTHER
	assert(avail <= STOPS || !(SLEEPS(2) || SLEEPS(3)))
#else
	assert(avail <= STOPS || !(SLEEPS(2) || SLEEPS(3) || SLEEPS(4)))
#endif
}

init { atomic {
	run publisher(0);
#ifndef ONE
	run publisher(1);
#endif
	run consumer(2); run consumer(3);
#if defined(THIRD) || defined(THREADS)
	run consumer(4);
#endif
#ifdef OTHER
	run stranger(4);
#endif
	run repairer(5)
} }
