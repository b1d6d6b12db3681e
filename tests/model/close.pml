/* A subscription ends while others publish, receive, settle and repair; its row and its memory live again.
 *
 * 0 publishes, with a match that it keeps under a version; 1 receives, and settles later; 2 closes and creates, LIVES
 * lives in all; 3 finishes what it finds closing; 4 repairs. One row {state, life}, one slot. `memory` says whose the
 * slot's memory is: to touch it as another life's is the error. busy[i] is a store that the barrier of whoever gives
 * memory back makes visible; so here it is seen at once.
 *
 * LEASES   deliveries that lose their lease
 * BAD_...  NOBARRIER busy is seen late; SETTLEBLIND a settle does not look at the row; ONEBUMP only who closes raises the
 *          version; NOGRACE nobody waits for those inside an operation; ONEGRACE only before the second look at the
 *          slots; NOLOCK two may finish at once; READYLATE who repairs looks at the row before it asks for slots_ready
 */
#define PROCS 5
#define VICTIM(i) (i < 4)
#include "common.pml"
#ifndef LIVES
#define LIVES 2
#endif
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef LEASES
#define LEASES 0
#endif
#define GONE 0
#define CREATING 1
#define OPEN 2
#define CLOSING 3
#define FREE 0
#define NEW 1
#define READY 2
#define INFLIGHT 3
#define NOBODY 7
#define NOTHING 15

byte row = OPEN, life = 1, version; bit slots_ready = 1;
byte memory = 1;
byte state, owner = NOBODY, gen, meant;
bit busy[PROCS]; byte holder = NOBODY;  /* of the control lock */
byte leases = LEASES;

#define TOUCH assert(memory == c)
#define IS(st, o, g) (state == st && owner == o && gen == g)
#define SET(st, o, g) state = st; owner = o; gen = g

proctype publisher(byte me) {
	byte k, c, v = NOTHING, g; bit ok;
	do
	:: k < MESSAGES ->
#ifdef BAD_NOBARRIER
	   STEP ok = (v == version); END
	   STEP busy[me] = 1; END
#else
	   STEP busy[me] = 1; END
	   STEP ok = (v == version); END
#endif
	   if :: ok -> goto matched :: else fi;
match:	   STEP v = version; END
	   STEP ok = (row == OPEN); c = life; END
	   if :: !ok -> v = NOTHING; goto out :: else fi;
matched:   STEP TOUCH; if :: state == FREE -> SET(NEW, me, gen + 1); g = gen; ok = 1 :: else -> ok = 0 fi; END
	   if :: !ok -> goto out :: else fi;
	   STEP ok = (row == OPEN && life == c); END
	   if
	   :: !ok ->                            /* another match, then */
		STEP TOUCH; SET(FREE, NOBODY, g); END
		STEP TOUCH; END                 /* the free hint */
		g = 0;
		goto match
	   :: else
	   fi;
	   STEP TOUCH; meant = c; SET(READY, NOBODY, g); END
out:	   STEP busy[me] = 0; END
	   k++; g = 0; ok = 0
	:: else -> break
	od;
	DEAD(k = 0; c = 0; v = 0; g = 0; ok = 0)
}

proctype receiver(byte me) {
	byte c, g; bit ok;
	do
	:: WHEN(row == OPEN && state == READY) busy[me] = 1; END
	   STEP ok = (row == OPEN); c = life; END
	   if :: !ok -> goto out :: else fi;
	   STEP TOUCH; if :: state == READY -> assert(meant == c); SET(INFLIGHT, me, gen + 1); g = gen; ok = 1 :: else -> ok = 0 fi; END
	   if :: !ok -> goto out :: else fi;
	   STEP busy[me] = 0; END
	   STEP busy[me] = 1; END
#ifndef BAD_SETTLEBLIND
	   STEP ok = slots_ready; END
	   if :: ok -> STEP ok = (life == c && (row == OPEN || row == CLOSING)); END :: else fi;
	   if :: !ok -> goto out :: else fi;
#endif
	   STEP TOUCH; if :: IS(INFLIGHT, me, g) -> SET(FREE, NOBODY, g); ok = 1 :: else -> ok = 0 fi; END
	   if :: ok -> STEP TOUCH; END :: else fi;
out:	   STEP busy[me] = 0; c = 0; g = 0; ok = 0; END
	od;
	DEAD(c = 0; g = 0; ok = 0)
}

#define IDLE(p) (!busy[p] || !alive[p])
/* Every other one is seen outside of operations. A peer that is inside is not waited for: later, then. */
inline grace() {
	p = 0;
	do
	:: p < PROCS ->
		STEP ok = (p == me || IDLE(p)); END
		if :: !ok -> goto out :: else fi;
		p++
	:: else -> break
	od;
	p = 0
}
/* What waits is freed; ok: every slot is FREE. */
inline purge() {
	STEP ok = slots_ready; END
	if
	:: ok ->
		STEP TOUCH; if :: state == READY -> SET(FREE, NOBODY, gen) :: else fi; ok = (state == FREE); END
		if :: !ok -> goto out :: else fi
	:: else
	fi
}
#ifdef BAD_NOLOCK
#define LOCKABLE true
#else
#define LOCKABLE (holder == NOBODY || !alive[holder])
#endif
/* Trying only when it may succeed stands for trying again and again. */
#define PROMISING ((!slots_ready || state == FREE || state == READY) && (me == 0 || IDLE(0)) && IDLE(1) && IDLE(4))

proctype closer(byte me) {
	byte c, p; bit ok;
	do
	:: WHEN(me == 2 && row == OPEN && life < LIVES) row = CLOSING; END
	   STEP version++; END
	:: WHEN((row == CLOSING || row == CREATING) && PROMISING && LOCKABLE) holder = me; busy[me] = 1; c = life;
		if :: row == CREATING -> row = CLOSING :: else fi; END
	   STEP ok = (row == CLOSING); END
	   if :: !ok -> goto out :: else fi;
#ifndef BAD_ONEBUMP
	   STEP version++; END
#endif
	   purge();
#ifndef BAD_NOGRACE
	   grace();
	   purge();
	   STEP slots_ready = 0; END
#ifndef BAD_ONEGRACE
	   grace();
#endif
#else
	   STEP slots_ready = 0; END
#endif
	   STEP memory = NOTHING; state = FREE; owner = NOBODY; gen = 0; meant = 0; END
	   STEP row = GONE; END
out:	   STEP busy[me] = 0; if :: holder == me -> holder = NOBODY :: else fi; c = 0; p = 0; ok = 0; END
	:: WHEN(me == 2 && row == GONE && life < LIVES && LOCKABLE) holder = me; row = CREATING; life++; END
	   STEP memory = life; END
	   STEP slots_ready = 1; END
	   STEP row = OPEN; END
	   STEP version++; holder = NOBODY; END
	od;
	DEAD(c = 0; p = 0; ok = 0)
}

proctype repairer(byte me) {
	byte d, c, o, g, x; bit ok;
	do
	:: WHEN(leases > 0 && state == INFLIGHT && row == OPEN) leases--; SET(READY, NOBODY, gen + 1); END
	:: WHEN(!(swept[0] && swept[1] && swept[2] && swept[3]))
		if :: !swept[0] -> d = 0 :: !swept[1] -> d = 1 :: !swept[2] -> d = 2 :: !swept[3] -> d = 3 fi; busy[me] = 1; END
#ifdef BAD_READYLATE
	   STEP ok = (row == OPEN || row == CLOSING); c = life; END
	   if :: ok -> STEP ok = slots_ready; END :: else fi;
#else
	   STEP ok = slots_ready; END
	   if :: ok -> STEP ok = (row == OPEN || row == CLOSING); c = life; END :: else fi;
#endif
	   if
	   :: ok ->
		STEP TOUCH; x = state; o = owner; g = gen; END
		if
		:: o == d && x == NEW -> STEP TOUCH; if :: IS(NEW, d, g) -> SET(FREE, NOBODY, g) :: else fi; END
			STEP TOUCH; END
		:: o == d && x == INFLIGHT -> STEP TOUCH; if :: IS(INFLIGHT, d, g) -> SET(READY, NOBODY, g + 1) :: else fi; END
			STEP TOUCH; END
		:: else
		fi
	   :: else
	   fi;
	   STEP busy[me] = 0; swept[d] = 1; d = 0; c = 0; o = 0; g = 0; x = 0; ok = 0; END
	od;
	DEAD(skip)
}

active proctype monitor() {
	timeout;
	/* what closes is closed, and its memory given back, unless who holds a message or the lock was stopped */
	assert(STOPS > 0 || !(go[2] || go[3]) || (row != CLOSING && row != CREATING));
	assert(STOPS > 0 || row != GONE || memory == NOTHING)
}

init { atomic {
	run publisher(0); run receiver(1); run closer(2); run closer(3); run repairer(4)
} }
