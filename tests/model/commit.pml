/* Commits that settle leases along: one block decides for what is published and for what is settled.
 *
 * 0, 1 take what they find of two messages, and commit: a message to each of OUTS subscriptions that says what it was made of,
 * with the settlement; 2 receives these; 3 (and 4 with REAPERS=2) repair; 5 ends LEASES leases. A slot is {state, owner, gen},
 * those that are received with a reference {block, gen}; the row of who commits says {block, gen}. The bit OUTS of a block is the
 * commit's. Slot 0 is freed by way of FREEING, as where its payload is in a block; slot 1 at once. Links are fanout.pml's.
 *
 * ONE      without 1
 * BAD_...  NODOOM who decides leaves the commit possible; UNDO what a dead one was settling always comes again; DONE it never
 *          does; OVERFIRST the commit's bit falls before all is settled; FORGETS the row forgets it before; ROWLATE the row says
 *          where it is decided only when all is SETTLING; NOOVER the sweep leaves the bit; GOON who has lost a lease commits all
 *          the same; NOGEN SETTLING has the lease's gen; STAYS what was doomed stays; NEXTLIFE a bit falls in whatever life
 */
#ifndef REAPERS
#define REAPERS 1
#endif
#define PROCS 6
#ifdef ONE
#define VICTIM(i) (i == 0 || (i > 2 && i < 3 + REAPERS))
#else
#define VICTIM(i) (i < 2 || (i > 2 && i < 3 + REAPERS))
#endif
#include "common.pml"
#ifndef LEASES
#define LEASES 0
#endif
#ifndef OUTS
#define OUTS 1
#endif
#define BLOCKS 2
#define FREE 0
#define NEW 1           /* of a slot and of a block */
#define BOUND 2
#define READY 3
#define AGAIN 4
#define INFLIGHT 5
#define SETTLING 6
#define FREEING 7
#define LIVE 2          /* of a block */
#define DOOMED 3
#define NOBODY 7
#define NONE 15
#define UNKNOWN 0
#define COMMITTED 1
#define UNDONE 2

byte state[2] = AGAIN, owner[2] = NOBODY, gen[2];
byte ostate[OUTS], oowner[OUTS] = NOBODY, ogen[OUTS], oblock[OUTS] = NONE, oblockgen[OUTS];
byte bstate[BLOCKS], bowner[BLOCKS] = NOBODY, bgen[BLOCKS], holders[BLOCKS], content[BLOCKS];
byte cblock[2] = NONE, cgen[2];
byte leases = LEASES;
/* What an observer knows: whether a commit settled a message, and whether what was made of it came, by subscription. */
bit done[2], came[2 * OUTS];

#define IS(i, st, o, g) (state[i] == st && owner[i] == o && gen[i] == g)
#define SET(i, st, o, g) state[i] = st; owner[i] = o; gen[i] = g
#define CAS(i, st, o, g, st2, o2, g2) if :: IS(i, st, o, g) -> SET(i, st2, o2, g2); won = 1 :: else -> won = 0 fi
/* The same to where it comes again, and to where it never does. */
#define COMES(i, st, o, g) if :: IS(i, st, o, g) -> assert(!done[i]); SET(i, AGAIN, NOBODY, g + 1); won = 1 :: else -> won = 0 fi
#define GOES(i, st, o, g) if :: IS(i, st, o, g) -> assert(done[i]); SET(i, FREE, NOBODY, g); won = 1 :: else -> won = 0 fi
#define OIS(i, st, o, g) (ostate[i] == st && oowner[i] == o && ogen[i] == g)
#define OFREE(i, st, o, g) if :: OIS(i, st, o, g) -> ostate[i] = FREE; oowner[i] = NOBODY :: else fi
#define HOLDS(q, g, bit) (q != NONE && bstate[q] == LIVE && bgen[q] == g && (holders[q] & (1 << (bit))))
#ifdef BAD_NEXTLIFE
#define FALLS(q, g, bit) (q != NONE && bstate[q] == LIVE && (holders[q] & (1 << (bit))))
#else
#define FALLS(q, g, bit) HOLDS(q, g, bit)
#endif
/* One CAS: a bit falls; the last one frees the block. */
#define RELEASE(q, g, bit) if :: FALLS(q, g, bit) -> holders[q] = holders[q] & ~(1 << (bit)); \
	if :: holders[q] == 0 -> bstate[q] = FREE; content[q] = 0 :: else fi :: else fi
#define BLOCK_BACK(q, o, g, st) if :: bstate[q] == st && bowner[q] == o && bgen[q] == g -> bstate[q] = FREE; bowner[q] = NOBODY; \
	content[q] = 0 :: else fi
#ifdef BAD_NOGEN
#define LATER(g) (g)
#else
#define LATER(g) (g + 1)
#endif

inline block_back(q, o, g) {
	STEP BLOCK_BACK(q, o, g, NEW); END
#ifndef BAD_STAYS
	STEP BLOCK_BACK(q, o, g, DOOMED); END
#endif
}

inline over(p) {
	STEP vb = cblock[p]; END
	STEP vg = cgen[p]; END
	STEP RELEASE(vb, vg, OUTS); END
	vb = 0; vg = 0
}

proctype worker(byte me) {
	byte i, b = NONE, g, mask, vb, vg; byte held[2], og[OUTS]; bit won, lost;
	do
	:: WHEN(state[0] == AGAIN || state[1] == AGAIN) skip; END
	   i = 0;
	   do
	   :: i < 2 ->
		STEP if :: state[i] == AGAIN -> SET(i, INFLIGHT, me, gen[i] + 1); held[i] = gen[i]; mask = mask | (1 << i) :: else fi; END
		i++
	   :: else -> break
	   od;
begin:	   i = 0;
	   if
	   :: mask == 0 -> goto next
	   :: else
	   fi;
	   WHEN(bstate[0] == FREE || bstate[1] == FREE) if :: bstate[0] == FREE -> b = 0 :: bstate[1] == FREE -> b = 1 fi;
		bstate[b] = NEW; bowner[b] = me; bgen[b] = bgen[b] + 1; g = bgen[b]; content[b] = mask; END
	   do
	   :: i < OUTS -> WHEN(ostate[i] == FREE) ostate[i] = NEW; oowner[i] = me; ogen[i] = ogen[i] + 1; og[i] = ogen[i]; END
		i++
	   :: else -> break
	   od;
	   i = 0;
	   do
	   :: i < OUTS -> STEP oblock[i] = b; oblockgen[i] = g; ostate[i] = BOUND; END
		i++
	   :: else -> break
	   od;
	   i = 0;
#ifndef BAD_ROWLATE
	   STEP cgen[me] = g; END
	   STEP cblock[me] = b; END
#endif
	   do
	   :: i < 2 && !lost ->
		if
		:: mask & (1 << i) ->
			STEP CAS(i, INFLIGHT, me, held[i], SETTLING, me, LATER(held[i])); END
			if
			:: won -> held[i] = LATER(held[i])
			:: else -> lost = 1; mask = mask & ~(1 << i)
			fi
		:: else
		fi;
		i++
	   :: else -> break
	   od;
#ifdef BAD_ROWLATE
	   STEP cgen[me] = g; END
	   STEP cblock[me] = b; END
#endif
#ifndef BAD_GOON
	   if
	   :: lost -> goto undo
	   :: else
	   fi;
#endif
	   STEP if
		:: bstate[b] == NEW && bowner[b] == me && bgen[b] == g ->
			assert(!((content[b] & 1) && done[0]) && !((content[b] & 2) && done[1]));
			if :: content[b] & 1 -> done[0] = 1 :: else fi;
			if :: content[b] & 2 -> done[1] = 1 :: else fi;
			bstate[b] = LIVE; bowner[b] = NOBODY; holders[b] = (2 << OUTS) - 1; won = 1
		:: else -> assert(bstate[b] == DOOMED && bowner[b] == me && bgen[b] == g); won = 0
		fi; END
	   if
	   :: !won -> goto undo
	   :: else
	   fi;
	   i = 0;
	   do
	   :: i < OUTS -> STEP assert(OIS(i, BOUND, me, og[i])); ostate[i] = READY; oowner[i] = NOBODY; END
		i++
	   :: else -> break
	   od;
#ifdef BAD_OVERFIRST
	   over(me);
#endif
#ifdef BAD_FORGETS
	   STEP cblock[me] = NONE; END
#endif
	   if
	   :: mask & 1 -> STEP CAS(0, SETTLING, me, held[0], FREEING, me, held[0] + 1); assert(won); END
		STEP GOES(0, FREEING, me, held[0] + 1); assert(won); END
	   :: else
	   fi;
	   if
	   :: mask & 2 -> STEP GOES(1, SETTLING, me, held[1]); assert(won); END
	   :: else
	   fi;
#ifdef BAD_FORGETS
	   STEP RELEASE(b, g, OUTS); END
#else
	   over(me);
	   STEP cblock[me] = NONE; END
#endif
	   mask = 0;
	   goto next;
undo:	   i = 0;
	   do
	   :: i < 2 ->
		if
		:: mask & (1 << i) -> STEP if
			:: state[i] == SETTLING -> CAS(i, SETTLING, me, held[i], INFLIGHT, me, LATER(held[i]));
				if :: won -> held[i] = LATER(held[i]) :: else fi
			:: else -> won = IS(i, INFLIGHT, me, held[i])
			fi;
			if :: !won -> mask = mask & ~(1 << i) :: else fi; END
		:: else
		fi;
		i++
	   :: else -> break
	   od;
	   STEP cblock[me] = NONE; END
	   i = 0;
	   do
	   :: i < OUTS -> STEP OFREE(i, BOUND, me, og[i]); END
		i++
	   :: else -> break
	   od;
	   block_back(b, me, g);
	   i = 0; g = 0; b = NONE; lost = 0; won = 0; og[0] = 0; og[OUTS - 1] = 0;
	   goto begin;
next:	   i = 0; g = 0; b = NONE; mask = 0; held[0] = 0; held[1] = 0; og[0] = 0; og[OUTS - 1] = 0; won = 0; lost = 0
	od;
	DEAD(i = 0; b = NONE; g = 0; mask = 0; vb = 0; vg = 0; held[0] = 0; held[1] = 0; og[0] = 0; og[OUTS - 1] = 0; won = 0; lost = 0)
}

#define COME(m, i) if :: content[oblock[i]] & (1 << m) -> assert(!came[m * OUTS + i]); came[m * OUTS + i] = 1 :: else fi
proctype receiver(byte me) {
	byte i, q, g;
	do
	:: WHEN(ostate[0] == READY || ostate[OUTS - 1] == READY) if :: ostate[0] == READY -> i = 0 :: ostate[OUTS - 1] == READY -> i = OUTS - 1 fi;
		assert(HOLDS(oblock[i], oblockgen[i], i));      /* what waits has its payload */
		COME(0, i); COME(1, i);
		q = oblock[i]; g = oblockgen[i]; ostate[i] = INFLIGHT; oowner[i] = me; END
	   STEP RELEASE(q, g, i); END
	   STEP ostate[i] = FREE; oowner[i] = NOBODY; i = 0; q = 0; g = 0; END
	od;
	DEAD(skip)
}

/* What is to become of slot i, word SETTLING(o, g). */
inline judge() {
	verdict = UNKNOWN;
	STEP vb = cblock[o]; END
	STEP vg = cgen[o]; END
	STEP won = IS(i, SETTLING, o, g); END
	if
	:: won ->
		verdict = UNDONE;
		if
		:: vb != NONE ->
#ifndef BAD_NODOOM
			STEP if :: bstate[vb] == NEW && bowner[vb] == o && bgen[vb] == vg -> bstate[vb] = DOOMED :: else fi; END
#endif
			STEP won = HOLDS(vb, vg, OUTS); END
			if
			:: won -> STEP verdict = (IS(i, SETTLING, o, g) -> COMMITTED : UNKNOWN); END
			:: else
			fi
		:: else
		fi
	:: else
	fi;
	vb = 0; vg = 0
}

inline freeing(s) {
	STEP CAS(i, s, d, g, FREEING, me, g + 1); END
	if
	:: won -> STEP GOES(i, FREEING, me, g + 1); END
	:: else
	fi
}

#define UNSWEPT !(swept[0] && swept[1] && swept[2] && swept[3] && swept[4] && swept[5])
proctype reaper(byte me) {
	byte d, i, x, o, g, q, vb, vg, verdict; bit won;
	do
	:: WHEN(UNSWEPT)
		if :: !swept[0] -> d = 0 :: !swept[1] -> d = 1 :: !swept[2] -> d = 2 :: !swept[3] -> d = 3 :: !swept[4] -> d = 4
		   :: !swept[5] -> d = 5 fi; i = 0; END
	   do
	   :: i < 2 ->
		STEP x = state[i]; o = owner[i]; g = gen[i]; END
		if
		:: o == d && x == INFLIGHT -> STEP COMES(i, INFLIGHT, d, g); END
		:: o == d && x == FREEING -> freeing(FREEING)
		:: o == d && x == SETTLING ->
			judge();
#ifdef BAD_UNDO
			if :: verdict == COMMITTED -> verdict = UNDONE :: else fi;
#endif
#ifdef BAD_DONE
			if :: verdict == UNDONE -> verdict = COMMITTED :: else fi;
#endif
			if
			:: verdict == COMMITTED -> freeing(SETTLING)
			:: verdict == UNDONE -> STEP COMES(i, SETTLING, d, g); END
			:: else
			fi;
			verdict = 0
		:: else
		fi;
		x = 0; o = 0; g = 0; won = 0; i++
	   :: else -> break
	   od;
	   i = 0;
	   do
	   :: i < OUTS ->
		STEP x = ostate[i]; o = oowner[i]; g = ogen[i]; END
		if
		:: o == d && x == NEW -> STEP OFREE(i, NEW, d, g); END
		:: o == d && x == BOUND ->
			STEP vb = oblock[i]; vg = oblockgen[i]; END
			STEP won = HOLDS(vb, vg, i); END
			if
			:: won -> STEP if :: OIS(i, BOUND, d, g) -> ostate[i] = READY; oowner[i] = NOBODY; ogen[i] = g + 1 :: else fi; END
			:: else -> STEP OFREE(i, BOUND, d, g); END
			fi;
			vb = 0; vg = 0
		:: else
		fi;
		x = 0; o = 0; g = 0; won = 0; i++
	   :: else -> break
	   od;
#ifndef BAD_NOOVER
	   if
	   :: d < 2 -> over(d)
	   :: else
	   fi;
#endif
	   i = 0;
	   do
	   :: i < BLOCKS ->
		STEP won = ((bstate[i] == NEW || bstate[i] == DOOMED) && bowner[i] == d); g = bgen[i]; END
		if
		:: won -> block_back(i, d, g)
		:: else
		fi;
		won = 0; g = 0; i++
	   :: else -> break
	   od;
	   STEP swept[d] = 1; d = 0; i = 0; END
	od;
	DEAD(d = 0; i = 0; x = 0; o = 0; g = 0; q = 0; vb = 0; vg = 0; verdict = 0; won = 0)
}

/* The end of a lease, whoever has it and whatever it does with it. */
#define LEASED(i) (state[i] == INFLIGHT || state[i] == SETTLING)
proctype timer(byte me) {
	byte i, x, o, g, vb, vg, verdict; bit won;
	do
	:: WHEN(leases > 0 && (LEASED(0) || LEASED(1))) leases--; if :: LEASED(0) -> i = 0 :: LEASED(1) -> i = 1 fi;
		x = state[i]; o = owner[i]; g = gen[i]; END
	   if
	   :: x == INFLIGHT -> STEP COMES(i, INFLIGHT, o, g); END
	   :: x == SETTLING ->
		judge();
		if
		:: verdict == UNDONE -> STEP COMES(i, SETTLING, o, g); END
		:: else
		fi
	   fi;
	   i = 0; x = 0; o = 0; g = 0; verdict = 0; won = 0
	od;
	DEAD(skip)
}

#define REPAIRED (go[3] || (REAPERS > 1 && go[4]))
#ifdef ONE
#define WORKING go[0]
#else
#define WORKING (go[0] || go[1])
#endif
active proctype monitor() {
	byte i;
	timeout;
	atomic {
		do
		:: i < 2 ->
			/* both, or neither */
			assert(!REPAIRED || STOPS > 0 || (state[i] == FREE && done[i] && came[i * OUTS] && came[i * OUTS + OUTS - 1]) ||
			       (state[i] == AGAIN && !done[i] && !came[i * OUTS] && !came[i * OUTS + OUTS - 1]));
			assert(!REPAIRED || STOPS > 0 || !WORKING || done[i]);
			assert(done[i] || !(came[i * OUTS] || came[i * OUTS + OUTS - 1]));
			/* a lease ends, whatever its holder was stopped in */
			assert(leases == 0 || LEASES == 0 || !LEASED(i) || done[i]);
			i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < BLOCKS -> assert(!REPAIRED || STOPS > 0 || bstate[i] == FREE); i++       /* nothing leaks */
		:: else -> break
		od;
		assert(!REPAIRED || STOPS > 0 || (ostate[0] == FREE && ostate[OUTS - 1] == FREE))
	}
}

init { atomic {
	run worker(0);
#ifndef ONE
	run worker(1);
#endif
	run receiver(2); run reaper(3);
#if REAPERS > 1
	run reaper(4);
#endif
	run timer(5)
} }
