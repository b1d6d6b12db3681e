/* Growth of areas under a limit: asked for in the area's word, granted there, made memory, done.
 *
 * AREAS areas of PAGES pages of address space each; LIMIT pages for all. 0, 1, 2 grow: each picks an area and needs a
 * number of pages in it, ROUNDS times; 3 repairs. A word is {state, granted, committed, target, changes}; `made` is what
 * the kernel has really given.
 *
 * BAD_...  NOGRANT one step: whoever finds a claim within the limit makes it memory, its owner undoes it
 *          NOCHANGES changes are not counted: a word may come again; COUNTFIRST the sum is taken before the claim
 *          IGNORECLAIMS what others asked for is not counted; OTHERSSTAY claims of others are left in the way
 */
#define PROCS 4
#ifndef GROWERS
#define GROWERS 2
#endif
#define VICTIM(i) (i < GROWERS)
#include "common.pml"
#ifndef AREAS
#define AREAS 2
#endif
#ifndef PAGES
#define PAGES 2
#endif
#ifndef LIMIT
#define LIMIT 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#define ACTIVE 0
#define GROWING 1
#define GRANTED 2       /* GROWING, with the bit */
#define NONE 15

byte state[AREAS], committed[AREAS], target[AREAS], changes[AREAS], made[AREAS];
byte asker[AREAS] = NONE;      /* BAD_NOGRANT: who asked, for its undo */

#ifdef BAD_NOCHANGES
#define CHANGED(a) skip
#else
#define CHANGED(a) changes[a] = (changes[a] + 1) % 16
#endif
#define SAME(a, s, n) (state[a] == s && changes[a] == n)
#define CAS(a, s, n, to, c, t) if :: SAME(a, s, n) -> state[a] = to; committed[a] = c; target[a] = t; CHANGED(a); won = 1 \
	:: else -> won = 0 fi

/* One word after the other, as the code reads them. */
inline tally() {
	i = 0; held = 0; asked = 0; claims = 0; first = NONE;
	do
	:: i < AREAS ->
		STEP
		held = held + committed[i];
		if
		:: state[i] == GRANTED -> held = held + target[i] - committed[i]
		:: state[i] == GROWING ->
#ifndef BAD_IGNORECLAIMS
			asked = asked + target[i] - committed[i];
#else
			if :: i == at -> asked = asked + target[i] - committed[i] :: else fi;
#endif
			if :: claims == 0 -> first = i; fs = changes[i] :: else fi; claims++
		:: else
		fi;
		i++; END
	:: else -> break
	od;
	i = 0
}

/* GRANTED: the kernel makes the pages; then the word says so. */
inline finish() {
	STEP if :: made[a] < t -> made[a] = t :: else fi;
#if AREAS == 3
	assert(made[0] + made[1] + made[2] <= LIMIT);
#else
	assert(made[0] + made[1] <= LIMIT);
#endif
	END
	STEP CAS(a, s, n, ACTIVE, t, 0); END
}

/* Decides the claim (area a, changes n): no = 1 where it was refused. */
inline decide() {
	at = a; n2 = n; tries = 0; no = 0;
	do
	:: tries == 4 -> break
	:: else ->
		tries++;
		tally();
		STEP won = SAME(at, GROWING, n2); END
		if
		:: !won -> break
		:: else
		fi;
		if
		:: held + asked <= LIMIT ->
			STEP CAS(at, GROWING, n2, GRANTED, committed[at], target[at]); END
			break
		:: else
		fi;
		if
#ifndef BAD_OTHERSSTAY
		:: claims > 0 && first != at ->
			STEP CAS(at, GROWING, n2, ACTIVE, committed[at], 0); END
			at = first; n2 = fs
		:: claims > 1 && first == at ->
			i = 0;
			do
			:: i < AREAS ->
				if
				:: i != at -> STEP if :: state[i] == GROWING -> fs = changes[i]; won = 1 :: else -> won = 0 fi; END
					if :: won -> STEP CAS(i, GROWING, fs, ACTIVE, committed[i], 0); END :: else fi
				:: else
				fi;
				i++
			:: else -> break
			od;
			i = 0
#endif
		:: else ->
			STEP CAS(at, GROWING, n2, ACTIVE, committed[at], 0); END
			no = (won && at == a);
			break
		fi
	od;
	at = 0; n2 = 0; tries = 0; held = 0; asked = 0; claims = 0; first = NONE; fs = 0; won = 0
}

proctype grower(byte me) {
	byte a, need, s, c, t, n, i, held, asked, claims, first = NONE, fs, at, n2, tries, k; bit won, no;
	do
	:: k < ROUNDS ->
		k++;
		STEP select(a : 0 .. AREAS - 1); select(need : 1 .. PAGES); END
again:		STEP s = state[a]; c = committed[a]; t = target[a]; n = changes[a]; END
		if
		:: c >= need -> goto next
		:: else
		fi;
		if
		:: s == ACTIVE ->
#ifdef BAD_COUNTFIRST
			at = a; tally(); at = 0;
			if
			:: held + asked + need - c > LIMIT -> goto next
			:: else
			fi;
			STEP CAS(a, ACTIVE, n, GRANTED, c, need); END
#else
			STEP CAS(a, ACTIVE, n, GROWING, c, need); if :: won -> asker[a] = me :: else fi; END
#endif
			goto again
		:: s == GRANTED -> finish(); goto again
		:: s == GROWING ->
#ifdef BAD_NOGRANT
			at = a; tally(); at = 0;
			if
			:: held + asked <= LIMIT -> finish(); goto again
			:: else ->
				STEP if :: asker[a] == me -> CAS(a, GROWING, n, ACTIVE, c, 0) :: else fi; END
			fi
#else
			decide();
			if :: !no -> goto again :: else fi
#endif
		fi;
next:		s = 0; c = 0; t = 0; n = 0; a = 0; need = 0; won = 0; no = 0; held = 0; asked = 0; claims = 0; first = NONE; fs = 0
	:: else -> break
	od;
	DEAD(a = 0; need = 0; s = 0; c = 0; t = 0; n = 0; i = 0; held = 0; asked = 0; claims = 0; first = NONE; fs = 0; at = 0;
	     n2 = 0; tries = 0; k = 0; won = 0; no = 0)
}

/* Growth names nobody, so a sweep finishes or withdraws whatever is under way. */
proctype repairer(byte me) {
	byte a, s, t, n; bit won;
	do
	:: WHEN(!(swept[0] && swept[1] && swept[2])) swept[0] = 1; swept[1] = 1; swept[2] = 1; a = 0; END
	   do
	   :: a < AREAS ->
		STEP s = state[a]; t = target[a]; n = changes[a]; END
		if
		:: s == GRANTED -> finish()
		:: s == GROWING -> STEP CAS(a, s, n, ACTIVE, committed[a], 0); END
		:: else
		fi;
		a++
	   :: else -> break
	   od;
	   a = 0; s = 0; t = 0; n = 0; won = 0
	od;
	DEAD(skip)
}

/* When all is quiet, whoever still runs can grow by what the limit leaves: no claim of the dead or stopped is in its way. */
proctype last(byte me) {
	byte a, need, s, c, t, n, i, held, asked, claims, first = NONE, fs, at, n2, tries; bit won, no;
	timeout;
	i = 0;
	do
	:: i < AREAS -> held = held + (state[i] == GRANTED -> target[i] : committed[i]); i++
	:: else -> break
	od;
	if
	:: held < LIMIT && committed[0] < PAGES && state[0] != GRANTED ->
		need = committed[0] + 1; i = 0; held = 0;
lastagain:	STEP s = state[a]; c = committed[a]; t = target[a]; n = changes[a]; END
		if
		:: c >= need -> skip
		:: c < need && s == ACTIVE -> STEP CAS(a, ACTIVE, n, GROWING, c, need); END goto lastagain
		:: c < need && s == GRANTED -> finish(); goto lastagain
		:: c < need && s == GROWING ->
			decide();
			if
			:: !no -> goto lastagain
			:: no && t > need -> goto lastagain
			:: else -> assert(false)        /* refused, although there is room */
			fi
		fi
	:: else
	fi;
	DEAD(skip)
}

init { atomic {
	run grower(0); run grower(1);
#if GROWERS > 2
	run grower(2);
#endif
	run repairer(3); run last(3)
} }
