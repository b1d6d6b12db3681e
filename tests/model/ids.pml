/* Ids that are published once: two tables of entries, each decided by the block that its message is in.
 *
 * 0, 1 publish MESSAGES each, all of one id (or of both of two, PAIR, the one in this order and the other in that); 2 (and 3
 * with REAPERS=2) repair; 4 (and 5 with TURNERS=2) turn the tables. A block is {state, owner, gen}, its commit NEW to FREE, as
 * where nobody receives: LIVE would say no more. An entry is {block, gen, ms, next, sibling, withdrawn}; a table holds ENTRIES.
 * `now` goes to TICKS, and the window is one tick.
 *
 * EARLIER  an id that was published before, in the table that was
 * LOOK     publishers look before they begin, as the code does, which decides nothing
 * LOAN     publisher 0 keeps a block that was refused, and publishes it without an id in the end
 * BAD_...  NODOOM who is not decided yet is left alone; LOOKFIRST the look comes before the entry; NOOTHER nobody looks into the
 *          table that was; NOTICE a turn goes unnoticed; NOWITHDRAW a block goes back without its ids; WITHDRAWLATE it does so
 *          before them; BLOCKLATE a block leads to its entry only after the chain does; STAYS what was doomed while it was
 *          given back stays; REDEEM a loan keeps its gen unless it was doomed; NOGRACE memory is cleared at once; NOVOID while
 *          others still look there; TURNFIRST after the turn; EARLYEND a turn comes before the window is over;
 *          ONEGRACE a table is void while
 *          what is in it is not decided; BEGANFIRST the table's time begins before it is the current one
 */
#ifndef REAPERS
#define REAPERS 1
#endif
#ifndef TURNERS
#define TURNERS 0
#endif
#define PROCS 6
#define VICTIM(i) (i < 2 || (i < 4 && i < 2 + REAPERS) || (i >= 4 && i < 4 + TURNERS))
#include "common.pml"
#ifndef MESSAGES
#define MESSAGES 1
#endif
#ifndef ROUNDS
#define ROUNDS 3
#endif
#ifndef TICKS
#define TICKS TURNERS
#endif
#ifndef ENTRIES
#define ENTRIES 4
#endif
#define BLOCKS 2
#ifdef PAIR
#define IDS 2
#else
#define IDS 1
#endif
#define WINDOW 1
#define FREE 0
#define NEW 1
#define DOOMED 2
#define NOBODY 7
#define NEVER 15
#define CURRENT(w) (w & 1)
#define OTHER(w) (1 - (w & 1))
#define VOID 2
#define NEXT 4
#define FAILED 1        /* answers */
#define DUPLICATE 2
#define PUBLISHED 3
#define ENTRY(t, i) (1 + (t) * ENTRIES + (i))
#define ALL (2 * ENTRIES + 1)
#define HEAD(t, k) head[(t) * IDS + (k)]
#define GONE BLOCKS     /* the block of an id that was published before */
#define NOTHING (BLOCKS + 1)

byte bstate[BLOCKS + 2], bowner[BLOCKS + 2] = NOBODY, bgen[BLOCKS + 2], bids[BLOCKS + 2];
byte eblock[ALL] = NOTHING, egen[ALL], ems[ALL], enext[ALL], esibling[ALL]; bit withdrawn[ALL], there[ALL];
byte head[2 * IDS], used[2];
byte word, began, now, lock = NOBODY;
bit busy[PROCS];
/* What an observer knows: the answers, and when what was published began, by id. */
byte answer[2 * MESSAGES], since[(2 * MESSAGES + 1) * IDS] = NEVER;

#define RECENT(m, k, t) (since[(m) * IDS + (k)] != NEVER && since[(m) * IDS + (k)] + WINDOW > t)
#if MESSAGES == 2
#define KNOWN(k, t) (RECENT(0, k, t) || RECENT(1, k, t) || RECENT(2, k, t) || RECENT(3, k, t) || RECENT(4, k, t))
#else
#define KNOWN(k, t) (RECENT(0, k, t) || RECENT(1, k, t) || RECENT(2, k, t))
#endif
#define WHICH (me == 1 -> IDS - 1 - k : k)

/* From entry `at` on: `dup` where one of them was published. `decides`: what is not decided yet is to be DOOMED. */
inline walk(decides) {
	do
	:: at == 0 || dup -> break
	:: else ->
		STEP assert(there[at]); x = eblock[at]; next = enext[at];
			if
			:: bgen[x] == egen[at] && bstate[x] == DOOMED -> maybe = 0
			:: bgen[x] == egen[at] && bstate[x] == NEW -> maybe = 0;
#ifndef BAD_NODOOM
				if :: decides -> bstate[x] = DOOMED :: else fi
#endif
			:: else -> maybe = 1
			fi; END
		if
		:: maybe -> STEP dup = (!withdrawn[at] && ems[at] + WINDOW > t); END
		:: else
		fi;
		at = next
	od;
	at = 0; x = 0; next = 0; maybe = 0
}

/* All ids of block b, gen g. */
inline withdraw() {
	STEP at = bids[b]; END
	do
	:: at != 0 ->
		STEP maybe = (eblock[at] == b && egen[at] == g); next = esibling[at]; END
		if
		:: maybe -> STEP withdrawn[at] = 1; END
			at = next
		:: else -> at = 0
		fi
	:: else -> break
	od;
	maybe = 0; next = 0
}

#define UNDO(o, s) STEP if :: bstate[b] == s && bowner[b] == o && bgen[b] == g -> bstate[b] = FREE; bowner[b] = NOBODY; won = 1 \
	:: else -> won = 0 fi; END

/* A block that is not to be committed: NEW(o) or, at any time, DOOMED. */
inline give_back(o) {
#if !defined(BAD_NOWITHDRAW) && !defined(BAD_WITHDRAWLATE)
	withdraw();
#endif
	UNDO(o, NEW)
#ifndef BAD_STAYS
	if
	:: !won -> UNDO(o, DOOMED)
	:: else
	fi;
#endif
#ifdef BAD_WITHDRAWLATE
	withdraw();
#endif
	won = 0
}

#define RENEW(s) STEP if :: bstate[b] == s && bowner[b] == me && bgen[b] == g -> bstate[b] = NEW; bgen[b] = g + 1; g = g + 1; won = 1 \
	:: else -> won = 0 fi; END

/* A block that stays its owner's. */
inline redeem() {
	withdraw();
#ifdef BAD_REDEEM
	won = 0;
#else
	RENEW(NEW)
#endif
	if
	:: !won -> RENEW(DOOMED)
	:: else
	fi;
	won = 0
}

#if TICKS > 0
#define LOOK_AT_CLOCK STEP t = now; END
#else
#define LOOK_AT_CLOCK
#endif

/* All entries that are older than ours, or all there are where we have none. */
inline look_at_all(decides) {
	LOOK_AT_CLOCK
	k = 0;
	do
	:: k < IDS && !dup ->
#ifdef BAD_LOOKFIRST
		STEP at = HEAD(CURRENT(w), k); END
#else
		if
		:: decides -> STEP at = enext[mine[k]]; END
		:: else -> STEP at = HEAD(CURRENT(w), k); END
		fi;
#endif
		walk(decides);
#ifndef BAD_NOOTHER
		if
		:: !dup && !(w & VOID) ->
			STEP at = HEAD(OTHER(w), k); END
			walk(decides)
		:: else
		fi;
#endif
		k++
	:: else -> break
	od;
	k = 0
}

inline add() {
	k = 0;
	do
	:: k < IDS ->
		STEP if :: used[CURRENT(w)] < ENTRIES -> r = ENTRY(CURRENT(w), used[CURRENT(w)]); used[CURRENT(w)]++ :: else -> r = 0 fi; END
		if
		:: r == 0 -> break      /* no memory */
		:: else
		fi;
		STEP eblock[r] = b; egen[r] = g; ems[r] = now; esibling[r] = bids[b]; withdrawn[r] = 0; there[r] = 1; END
#ifndef BAD_BLOCKLATE
		STEP bids[b] = r; END
#endif
		do
		:: STEP next = HEAD(CURRENT(w), WHICH); enext[r] = next; END
		   STEP if :: HEAD(CURRENT(w), WHICH) == next -> HEAD(CURRENT(w), WHICH) = r; won = 1 :: else -> won = 0 fi; END
		   if :: won -> break :: else fi
		od;
#ifdef BAD_BLOCKLATE
		STEP bids[b] = r; END
#endif
		mine[WHICH] = r; k++; won = 0
	:: else -> break
	od;
	k = 0; next = 0
}

proctype publisher(byte me) {
	byte n, m, b = NOBODY, g, w, k, r, at, x, next, t, rounds; byte mine[IDS]; bit won, dup, maybe;
	do
	:: n < MESSAGES ->
	   m = me * MESSAGES + n; rounds = 0;
	   STEP busy[me] = 1; END
#ifdef LOOK
	   STEP w = word; END
	   look_at_all(false);
	   if
	   :: dup -> STEP assert(KNOWN(0, t) || (IDS == 2 && KNOWN(IDS - 1, t))); answer[m] = DUPLICATE; busy[me] = 0; END
		goto next_one
	   :: else
	   fi;
#endif
begin:	   if
	   :: b == NOBODY ->
		WHEN(bstate[0] == FREE || bstate[1] == FREE) if :: bstate[0] == FREE -> b = 0 :: bstate[1] == FREE -> b = 1 fi;
			bstate[b] = NEW; bowner[b] = me; bgen[b] = bgen[b] + 1; g = bgen[b]; END
	   :: else
	   fi;
	   STEP w = word; END
#ifdef BAD_LOOKFIRST
	   look_at_all(true);
	   if :: dup -> r = 1 :: else -> add() fi;
#else
	   add();
#endif
	   if
	   :: r == 0 -> goto refused
	   :: else
	   fi;
#ifndef BAD_NOTICE
	   STEP won = (word == w); END  /* else others add to the other table by now, and do not see ours */
	   if
	   :: !won -> goto refused
	   :: else
	   fi;
#endif
#ifndef BAD_LOOKFIRST
	   look_at_all(true);
#endif
	   if
	   :: dup -> goto refused
	   :: else
	   fi;
	   STEP if
		:: bstate[b] == NEW && bowner[b] == me && bgen[b] == g ->
			assert(!KNOWN(0, now) && (IDS == 1 || !KNOWN(IDS - 1, now)));   /* once */
			since[m * IDS] = ems[mine[0]]; since[m * IDS + IDS - 1] = ems[mine[IDS - 1]];
			bstate[b] = FREE; bowner[b] = NOBODY; won = 1
		:: else -> assert(bstate[b] == DOOMED && bowner[b] == me && bgen[b] == g); won = 0
		fi; END
	   if
	   :: won -> STEP answer[m] = PUBLISHED; busy[me] = 0; END
		b = NOBODY; goto next_one
	   :: else
	   fi;
refused:
#ifdef LOAN
	   if
	   :: me == 0 -> redeem()
	   :: else -> give_back(me); b = NOBODY
	   fi;
#else
	   give_back(me); b = NOBODY;
#endif
	   if
	   :: dup -> STEP assert(KNOWN(0, t) || (IDS == 2 && KNOWN(IDS - 1, t))); answer[m] = DUPLICATE; END     /* of something */
	   :: !dup && r != 0 && rounds + 1 < ROUNDS -> rounds++; r = 0; w = 0; t = 0; won = 0; mine[0] = 0; mine[IDS - 1] = 0; goto begin
	   :: else -> STEP answer[m] = FAILED; END
	   fi;
	   if
	   :: b != NOBODY -> STEP assert(bstate[b] == NEW && bowner[b] == me && bgen[b] == g); bstate[b] = FREE; bowner[b] = NOBODY; END
		b = NOBODY
	   :: else
	   fi;
	   STEP busy[me] = 0; END
next_one:  n++; m = 0; g = 0; w = 0; r = 0; t = 0; rounds = 0; mine[0] = 0; mine[IDS - 1] = 0; won = 0; dup = 0
	:: else -> break
	od;
	DEAD(n = 0; m = 0; b = NOBODY; g = 0; w = 0; k = 0; r = 0; at = 0; x = 0; next = 0; t = 0; rounds = 0; mine[0] = 0;
	     mine[IDS - 1] = 0; won = 0; dup = 0; maybe = 0)
}

#define UNSWEPT !(swept[0] && swept[1] && swept[2] && swept[3] && swept[4] && swept[5])
proctype reaper(byte me) {
	byte d, b, g, at, next; bit won, maybe;
	do
	:: WHEN(UNSWEPT)
		if :: !swept[0] -> d = 0 :: !swept[1] -> d = 1 :: !swept[2] -> d = 2 :: !swept[3] -> d = 3 :: !swept[4] -> d = 4
		   :: !swept[5] -> d = 5 fi; busy[me] = 1; END
	   b = 0;
	   do
	   :: b < BLOCKS ->
		STEP won = ((bstate[b] == NEW || bstate[b] == DOOMED) && bowner[b] == d); g = bgen[b]; END
		if
		:: won -> give_back(d)
		:: else
		fi;
		b++; g = 0; won = 0
	   :: else -> break
	   od;
	   STEP swept[d] = 1; busy[me] = 0; d = 0; b = 0; END
	od;
	DEAD(d = 0; b = 0; g = 0; at = 0; next = 0; won = 0; maybe = 0)
}

#define CLEAR(i) eblock[i] = NOTHING; egen[i] = 0; ems[i] = 0; enext[i] = 0; esibling[i] = 0; withdrawn[i] = 0; there[i] = 0
#ifdef BAD_EARLYEND
#define EARLY (word < NEXT)
#else
#define EARLY false
#endif
#define OVER(b) (b != NEVER && now >= b + WINDOW)
inline clear() {
	STEP HEAD(OTHER(w), 0) = 0; HEAD(OTHER(w), IDS - 1) = 0;
		i = 0;
		do :: i < ENTRIES -> CLEAR(ENTRY(OTHER(w), i)); i++ :: else -> break od;
		i = 0; END
	STEP used[OTHER(w)] = 0; END
}

inline grace() {
	p = 0;
	do
	:: p < 4 -> WHEN(!busy[p] || !alive[p]) p++; END
	:: else -> break
	od;
	p = 0
}

/* Under the control lock, which falls with who dies. */
proctype turner(byte me) {
	byte w, p, was, i; bit go_on;
	do
	:: WHEN((lock == NOBODY || !alive[lock]) && (began == NEVER || OVER(began) || (word & VOID) || EARLY))
		lock = me; w = word; was = began; END
	   if
	   :: was == NEVER -> STEP began = now; END
	   :: else
	   fi;
	   go_on = ((w & VOID) || OVER(was) || EARLY);
	   if
	   :: go_on ->
		if
		:: !(w & VOID) ->
#ifndef BAD_ONEGRACE
			grace();        /* what was added while it was the current one is decided */
#endif
#ifndef BAD_NOVOID
			STEP w = w + NEXT + VOID; word = w; END
#else
			w = w + VOID
#endif
		:: else
		fi;
#ifndef BAD_NOGRACE
		grace();
#endif
#ifndef BAD_TURNFIRST
		clear();
#endif
#ifdef BAD_BEGANFIRST
		STEP began = now; END
#else
		STEP began = NEVER; END
#endif
		STEP word = (w + NEXT) ^ (VOID + 1); END
#ifdef BAD_TURNFIRST
		clear();
#endif
#ifndef BAD_BEGANFIRST
		STEP began = now; END
#endif
	   :: else
	   fi;
	   STEP lock = NOBODY; END
	   w = 0; was = 0; go_on = 0
	od;
	DEAD(w = 0; p = 0; was = 0; i = 0; go_on = 0)
}

active proctype clock() {
end:	do
	:: atomic { now < TICKS -> now++ }
	od
}

#define REPAIRED (go[2] || (REAPERS > 1 && go[3]))
#define PUBLISHES(r) (!(bgen[eblock[r]] == egen[r] && bstate[eblock[r]] != FREE) && !withdrawn[r] && ems[r] + WINDOW > now)
active proctype monitor() {
	byte k, r; bit found;
	timeout;
	atomic {
		assert(!go[0] || STOPS > 0 || answer[MESSAGES - 1] != 0);
		assert(!go[1] || STOPS > 0 || answer[2 * MESSAGES - 1] != 0);
		/* nothing leaks */
		assert(!REPAIRED || STOPS > 0 || (bstate[0] == FREE && bstate[1] == FREE));
		do
		:: k < IDS ->
			/* what was published is known, and what was not is free */
			r = HEAD(CURRENT(word), k);
			do :: r != 0 -> assert(there[r]); found = (found || PUBLISHES(r)); r = enext[r] :: else -> break od;
			r = ((word & VOID) -> 0 : HEAD(OTHER(word), k));
			do :: r != 0 -> assert(there[r]); found = (found || PUBLISHES(r)); r = enext[r] :: else -> break od;
			assert(!REPAIRED || found == KNOWN(k, now));
			found = 0; k++
		:: else -> break
		od
	}
}

init { atomic {
#ifdef EARLIER
	eblock[ENTRY(1, 0)] = GONE; egen[ENTRY(1, 0)] = 1; there[ENTRY(1, 0)] = 1; used[1] = 1;
	HEAD(1, 0) = ENTRY(1, 0); since[2 * MESSAGES * IDS] = 0;
#endif
	run publisher(0); run publisher(1); run reaper(2);
#if REAPERS > 1
	run reaper(3);
#endif
#if TURNERS > 0
	run turner(4);
#endif
#if TURNERS > 1
	run turner(5);
#endif
} }
