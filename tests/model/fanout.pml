/* Publish to two subscriptions: a block that both deliveries refer to, all or nothing.
 *
 * 0, 1 publish MESSAGES each to both; 2 receives from subscription 0, 3 from 1; 4 (and 5 with REAPERS=2) repair. Each
 * subscription has one slot, so that to hold it is to hold all of its capacity; BLOCKS blocks. A slot is {state, owner,
 * gen} with a reference {block, gen, bit}. The ring is ring.pml's: here
 * `linked` says that the cell of the slot's place leads to it.
 *
 * DROP     publisher 1 takes the oldest message to make room; others try again once and then go without
 * TOPICS   publisher 1 publishes to subscription 1 alone
 * LEASES   deliveries that lose their lease
 * BAD_...  COUNT holders are counted; COMMITLATE slots are linked before the block is LIVE; ACKFREE the slot is freed
 *          before the holder's bit falls; BLINDFREE who repairs FREEING does not take it over; NOROLL who repairs BOUND
 *          always frees it; UNLINKEDFREE so an OFFER that is not linked; NOGEN the block's gen is not compared; PARTLY a
 *          publisher that finds one full keeps the rest
 */
#ifndef REAPERS
#define REAPERS 1
#endif
#define PROCS 6
#ifdef ONE
#define VICTIM(i) (i != 1 && i < 4 + REAPERS)
#else
#define VICTIM(i) (i < 4 + REAPERS)
#endif
#include "common.pml"
#ifndef BLOCKS
#define BLOCKS 2
#endif
#ifndef MESSAGES
#define MESSAGES 1
#endif
#ifndef LEASES
#define LEASES 0
#endif
#define FREE 0
#define NEW 1
#define BOUND 2
#define OFFER 3
#define READY 4
#define AGAIN 5
#define INFLIGHT 6
#define FREEING 7
#define LIVE 2          /* of a block */
#define NOBODY 7
#define NOTHING 15
#ifdef TOPICS
#define FROM(me) me
#else
#define FROM(me) 0
#endif

byte state[2], owner[2] = NOBODY, gen[2], ref[2] = NOTHING, refgen[2]; bit refbit[2], linked[2];
byte bstate[BLOCKS], bowner[BLOCKS] = NOBODY, bgen[BLOCKS], holders[BLOCKS], content[BLOCKS] = NOTHING;
byte leases = LEASES;
/* What an observer knows; message m at subscription i is m * 2 + i: */
bit returned[2 * MESSAGES]; bit refused[2 * MESSAGES]; bit settled[4 * MESSAGES]; bit dropped[4 * MESSAGES];

#define IS(i, st, o, g) (state[i] == st && owner[i] == o && gen[i] == g)
#define SET(i, st, o, g) state[i] = st; owner[i] = o; gen[i] = g
#define CLAIMABLE(i) (state[i] == AGAIN || ((state[i] == OFFER || state[i] == READY) && linked[i]))

#ifdef BAD_NOGEN
#define LIVES(q, r) (bstate[q] == LIVE)
#else
#define LIVES(q, r) (bstate[q] == LIVE && bgen[q] == r)
#endif
#ifdef BAD_COUNT
#define HOLDS(q, r, i) (LIVES(q, r) && holders[q] > 0)
#define LESS(q, i) (holders[q] - 1)
#define EVERYBODY (2 - FROM(me))
#else
#define HOLDS(q, r, i) (LIVES(q, r) && (holders[q] & (1 << refbit[i])) != 0)
#define LESS(q, i) (holders[q] & ~(1 << refbit[i]))
#define EVERYBODY (FROM(me) == 1 -> 1 : 3)
#endif
/* One CAS: my bit falls; the last one frees the block. */
#define RELEASE(q, r, i) if :: HOLDS(q, r, i) -> holders[q] = LESS(q, i); \
	if :: holders[q] == 0 -> bstate[q] = FREE; content[q] = NOTHING :: else fi :: else fi

/* The way out of FREEING(me, g). */
inline finish_freeing() {
	STEP q = ref[i]; r = refgen[i]; END
	STEP RELEASE(q, r, i); END
	STEP if :: IS(i, FREEING, me, g) -> SET(i, FREE, NOBODY, g) :: else fi; END
}

proctype publisher(byte me) {
	byte k, q, r, i, g, m, b, tries; byte words[2]; bit won;
	do
	:: k < MESSAGES ->
	   m = me * MESSAGES + k; tries = 0;
	   WHEN(bstate[0] == FREE || bstate[BLOCKS - 1] == FREE)
		if :: bstate[0] == FREE -> b = 0 :: bstate[BLOCKS - 1] == FREE -> b = BLOCKS - 1 fi;
		bstate[b] = NEW; bowner[b] = me; bgen[b] = bgen[b] + 1; r = bgen[b]; content[b] = m; END
reserve:   i = FROM(me);
	   do
	   :: i < 2 ->
		STEP if :: state[i] == FREE -> SET(i, NEW, me, gen[i] + 1); words[i] = gen[i]; won = 1 :: else -> won = 0 fi; END
		if
		:: won -> i++
#ifdef DROP
		:: !won && me == 1 && tries < 2 ->
			tries++;
			STEP won = CLAIMABLE(i); g = gen[i]; END
			if
			:: won -> STEP if :: CLAIMABLE(i) && gen[i] == g -> g++; SET(i, INFLIGHT, me, g); won = 1 :: else -> won = 0 fi; END
				if
				:: won -> STEP if :: IS(i, INFLIGHT, me, g) -> state[i] = FREEING; dropped[content[ref[i]] * 2 + i] = 1;
						won = 1 :: else -> won = 0 fi; END
					if :: won -> finish_freeing(); r = bgen[b]; q = 0 :: else fi
				:: else
				fi
			:: else
			fi;
			g = 0; q = 0
#endif
		:: else -> break
		fi
	   :: else -> break
	   od;
	   if
	   :: i < 2 ->                          /* full: all of it goes back */
#ifndef BAD_PARTLY
		do
		:: i > FROM(me) -> i--;
			STEP SET(i, FREE, NOBODY, words[i]); END
		:: else -> break
		od;
#endif
		words[0] = 0; words[1] = 0; i = 0;
		if
		:: tries < 1 -> tries++; goto reserve
		:: else
		fi;
		STEP bstate[b] = FREE; bowner[b] = NOBODY; content[b] = NOTHING; END
		STEP refused[m] = 1; END
		goto next
	   :: else
	   fi;
	   i = FROM(me);
#ifdef BAD_COMMITLATE
	   do
	   :: i < 2 -> STEP ref[i] = b; refgen[i] = r; refbit[i] = i - FROM(me); END
		STEP linked[i] = 0; state[i] = OFFER; END
		STEP linked[i] = 1; END
		i++
	   :: else -> break
	   od;
	   STEP bstate[b] = LIVE; bowner[b] = NOBODY; holders[b] = EVERYBODY; END
#else
	   do
	   :: i < 2 -> STEP ref[i] = b; refgen[i] = r; refbit[i] = i - FROM(me); END
		STEP state[i] = BOUND; END
		i++
	   :: else -> break
	   od;
	   STEP assert(bstate[b] == NEW && bowner[b] == me); bstate[b] = LIVE; bowner[b] = NOBODY; holders[b] = EVERYBODY; END
	   i = FROM(me);
	   do
	   :: i < 2 -> STEP linked[i] = 0; END          /* the place */
		STEP state[i] = OFFER; END
		STEP linked[i] = 1; END                 /* the cell */
		i++
	   :: else -> break
	   od;
#endif
	   STEP returned[m] = 1; END
next:	   k++; i = 0; b = 0; r = 0; m = 0; words[0] = 0; words[1] = 0; tries = 0; won = 0
	:: else -> break
	od;
	DEAD(k = 0; q = 0; r = 0; i = 0; g = 0; m = 0; b = 0; tries = 0; words[0] = 0; words[1] = 0; won = 0)
}

proctype receiver(byte me) {
	byte i, g, m, q, r; bit won;
	i = me - 2;
	do
	:: WHEN(CLAIMABLE(i)) g = gen[i]; END
	   STEP if :: CLAIMABLE(i) && gen[i] == g -> g++; SET(i, INFLIGHT, me, g); won = 1 :: else -> won = 0 fi; END
	   if
	   :: won ->
		/* the payload is there for as long as the lease lasts */
		STEP q = ref[i]; r = refgen[i]; m = content[q];
			assert(!IS(i, INFLIGHT, me, g) || HOLDS(q, r, i)); END
		STEP assert(!IS(i, INFLIGHT, me, g) || (HOLDS(q, r, i) && content[q] == m)); END
#ifdef BAD_ACKFREE
		STEP if :: IS(i, INFLIGHT, me, g) -> SET(i, FREE, NOBODY, g); settled[m * 2 + i] = 1; won = 1 :: else -> won = 0 fi; END
		if :: won -> STEP RELEASE(q, r, i); END :: else fi
#else
		STEP if :: IS(i, INFLIGHT, me, g) -> state[i] = FREEING; assert(!settled[m * 2 + i]); settled[m * 2 + i] = 1; won = 1
			:: else -> won = 0 fi; END
		if :: won -> finish_freeing() :: else fi
#endif
	   :: else
	   fi;
	   g = 0; m = 0; q = 0; r = 0; won = 0
	od;
	DEAD(g = 0; m = 0; q = 0; r = 0; won = 0)
}

/* BOUND, and OFFER that is not linked: on if the commit was, else back. */
inline bound(s) {
	STEP q = ref[i]; r = refgen[i]; END
#ifdef BAD_NOROLL
	won = 0;
#else
	STEP won = HOLDS(q, r, i); END
#endif
	STEP if :: IS(i, s, d, g) -> if :: won -> SET(i, AGAIN, NOBODY, g + 1) :: else -> SET(i, FREE, NOBODY, g) fi :: else fi; END
}

#define UNSWEPT !(swept[0] && swept[1] && swept[2] && swept[3] && swept[4] && swept[5])
proctype reaper(byte me) {
	byte d, i, x, o, g, q, r; bit won;
	do
	:: WHEN(leases > 0 && (state[0] == INFLIGHT || state[1] == INFLIGHT)) leases--;
		if :: state[0] == INFLIGHT -> i = 0 :: state[1] == INFLIGHT -> i = 1 fi; g = gen[i]; o = owner[i]; END
	   STEP if :: IS(i, INFLIGHT, o, g) -> SET(i, AGAIN, NOBODY, g + 1) :: else fi; i = 0; g = 0; o = 0; END
	:: WHEN(UNSWEPT)
		if :: !swept[0] -> d = 0 :: !swept[1] -> d = 1 :: !swept[2] -> d = 2 :: !swept[3] -> d = 3 :: !swept[4] -> d = 4
		   :: !swept[5] -> d = 5 fi; i = 0; END
	   do
	   :: i < 2 ->
		STEP x = state[i]; o = owner[i]; g = gen[i]; END
		if
		:: o == d && x == NEW -> STEP if :: IS(i, NEW, d, g) -> SET(i, FREE, NOBODY, g) :: else fi; END
		:: o == d && x == BOUND -> bound(BOUND)
		:: o == d && x == OFFER ->
			STEP won = linked[i]; END
			if
			:: won -> STEP if :: IS(i, OFFER, d, g) -> SET(i, READY, NOBODY, g) :: else fi; END
#ifdef BAD_UNLINKEDFREE
			:: else -> STEP if :: IS(i, OFFER, d, g) -> SET(i, FREE, NOBODY, g) :: else fi; END
#else
			:: else -> bound(OFFER)
#endif
			fi
		:: o == d && x == INFLIGHT -> STEP if :: IS(i, INFLIGHT, d, g) -> SET(i, AGAIN, NOBODY, g + 1) :: else fi; END
		:: o == d && x == FREEING ->
#ifdef BAD_BLINDFREE
			STEP q = ref[i]; r = refgen[i]; END
			STEP RELEASE(q, r, i); END
			STEP if :: IS(i, FREEING, d, g) -> SET(i, FREE, NOBODY, g) :: else fi; END
#else
			STEP if :: IS(i, FREEING, d, g) -> g++; SET(i, FREEING, me, g); won = 1 :: else -> won = 0 fi; END
			if :: won -> finish_freeing() :: else fi
#endif
		:: else
		fi;
		q = 0; r = 0; x = 0; o = 0; g = 0; won = 0; i++
	   :: else -> break
	   od;
	   i = 0;
	   do
	   :: i < BLOCKS ->
		STEP won = (bstate[i] == NEW && bowner[i] == d); g = bgen[i]; END
		if
		:: won -> STEP if :: bstate[i] == NEW && bowner[i] == d && bgen[i] == g -> bstate[i] = FREE; bowner[i] = NOBODY;
				content[i] = NOTHING :: else fi; END
		:: else
		fi;
		won = 0; g = 0; i++
	   :: else -> break
	   od;
	   STEP swept[d] = 1; d = 0; i = 0; END
	od;
	DEAD(d = 0; i = 0; x = 0; o = 0; g = 0; q = 0; r = 0; won = 0)
}

#define REPAIRED (go[4] || (REAPERS > 1 && go[5]))
#define WORKING (go[2] && go[3] && REPAIRED)
#define STUCK(o) (o != NOBODY && alive[o] && !go[o])
#define DONE(m, i) (settled[m * 2 + i] || dropped[m * 2 + i])
#define WAITS(i) (state[i] == OFFER || state[i] == READY || state[i] == AGAIN)
#define REFERS(i, q) (state[i] != FREE && ref[i] == q && refgen[i] == bgen[q])
active proctype monitor() {
	byte m, i;
	timeout;
	atomic {
		do
		:: m < 2 * MESSAGES ->
			assert(!WORKING || !returned[m] || ((DONE(m, 0) || FROM(m / MESSAGES) == 1) && DONE(m, 1)));    /* nothing is lost */
			assert(!WORKING || STOPS > 0 || DONE(m, 0) == DONE(m, 1) || FROM(m / MESSAGES) == 1);   /* all or nothing */
			assert(!refused[m] || !(DONE(m, 0) || DONE(m, 1)));
			m++
		:: else -> break
		od;
		do
		:: i < 2 ->
			assert(!WORKING || state[i] == FREE || STUCK(owner[i]));
			assert(!REPAIRED || STOPS > 0 || !WAITS(i) || HOLDS(ref[i], refgen[i], i));     /* what waits has its payload */
			i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < BLOCKS ->                                                                        /* nothing leaks */
			assert(!REPAIRED || STOPS > 0 || bstate[i] == FREE || (bstate[i] == LIVE && (REFERS(0, i) || REFERS(1, i))));
			i++
		:: else -> break
		od
	}
}

init { atomic {
	run publisher(0); run receiver(2); run receiver(3); run reaper(4);
#ifndef ONE
	run publisher(1);
#endif
#if REAPERS > 1
	run reaper(5);
#endif
} }
