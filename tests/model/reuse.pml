/* Owner numbers are given out again: row {state, incarnation}, its bitmap of touched subscriptions, two reapers.
 *
 * Row 1 has LIVES lives, each of which publishes or receives a little and ends anywhere; 1 and 2 sweep it, each at its
 * own pace, and may die too: their rows are 2 and 3. Slot x is in a subscription of its own; a word is {state, owner,
 * gen}.
 *
 * BAD_...  NOROW the row is not looked at between the word and the CAS; ROWFIRST it is looked at before the word;
 *          EARLY the row is freed before the sweep; SWEEPCLEARS who has swept clears the bitmap, not the next life;
 *          BLINDTAKE a reaper takes a slot over without touching its subscription
 */
#define PROCS 3
#define VICTIM(i) (i > 0)
#include "common.pml"
#ifndef LIVES
#define LIVES 3
#endif
#define NOBODY 0
#define FREE 0
#define NEW 1
#define READY 2
#define INFLIGHT 3
#define FREEING 4
#define ROW_FREE 0
#define ROW_JOINING 1
#define ROW_LIVE 2
#define ROW_DEAD 3

byte state[2], owner[2], gen[2];
byte row[4], life[4];
bit touched[8];         /* row * 2 + subscription */

#define ROW(i) (i + 1)
#define CAS(x, s, o, g, s2, o2, g2) if :: state[x] == s && owner[x] == o && gen[x] == g -> state[x] = s2; owner[x] = o2; gen[x] = g2; won = 1 \
	:: else -> won = 0 fi
/* The same by a reaper: never from a word of a life that is not dead. */
#define REPAIR(x, s, o, g, s2, o2, g2) if :: state[x] == s && owner[x] == o && gen[x] == g -> assert(row[d] != ROW_LIVE); \
	state[x] = s2; owner[x] = o2; gen[x] = g2; won = 1 :: else -> won = 0 fi

/* Row 1's lives, one after the other. Between any two steps a life may end. */
proctype peer(byte me) {
	byte k, x, g, s; bit won;
	do
	:: k < LIVES ->
		WHEN(row[1] == ROW_FREE) row[1] = ROW_JOINING; life[1] = life[1] + 1;
			assert(!(owner[0] == 1 || owner[1] == 1)); END   /* no word names a row that is given out */
#ifndef BAD_SWEEPCLEARS
		STEP touched[2] = 0; END
		STEP touched[3] = 0; END
#endif
		STEP row[1] = ROW_LIVE; END
		do
		:: break
		:: STEP select(x : 0 .. 1); s = state[x]; g = gen[x]; END
			STEP touched[2 + x] = 1; END
			if
			:: s == FREE ->
				STEP CAS(x, FREE, NOBODY, g, NEW, 1, g + 1); END
				if
				:: won -> break
				:: won -> STEP CAS(x, NEW, 1, g + 1, READY, NOBODY, g + 1); assert(won); END
				:: else
				fi
			:: s == READY ->
				STEP CAS(x, READY, NOBODY, g, INFLIGHT, 1, g + 1); END
				if
				:: won -> break
				:: won -> STEP CAS(x, INFLIGHT, 1, g + 1, FREEING, 1, g + 1); assert(won); END
					if
					:: break
					:: STEP CAS(x, FREEING, 1, g + 1, FREE, NOBODY, g + 1); assert(won); END
					fi
				:: else
				fi
			:: else
			fi;
			break
		od;
		STEP row[1] = ROW_DEAD; END
		k++; x = 0; g = 0; s = 0; won = 0
	:: else -> break
	od;
	DEAD(k = 0; x = 0; g = 0; s = 0; won = 0)
}

inline sweep() {
	x = 0;
	do
	:: x < 2 ->
		STEP won = touched[d * 2 + x]; END
		if
		:: won ->
#ifdef BAD_ROWFIRST
			STEP won = (row[d] == ROW_DEAD && life[d] == l); END
			STEP s = (owner[x] == d -> state[x] : FREE); g = gen[x]; END
#else
			STEP s = (owner[x] == d -> state[x] : FREE); g = gen[x]; END
#ifdef BAD_NOROW
			won = 1;
#else
			STEP won = (row[d] == ROW_DEAD && life[d] == l); END
#endif
#endif
			if :: !won -> goto out :: else fi;
			if
			:: s == NEW -> STEP REPAIR(x, NEW, d, g, FREE, NOBODY, g); END
			:: s == INFLIGHT -> STEP REPAIR(x, INFLIGHT, d, g, READY, NOBODY, g + 1); END
			:: s == FREEING ->
#ifndef BAD_BLINDTAKE
				STEP touched[ROW(me) * 2 + x] = 1; END
#endif
				STEP REPAIR(x, FREEING, d, g, FREEING, ROW(me), g + 1); END
				if
				:: won -> STEP CAS(x, FREEING, ROW(me), g + 1, FREE, NOBODY, g + 1); END
				:: else
				fi
			:: else
			fi
		:: else
		fi;
		x++; s = 0; g = 0
	:: else -> break
	od;
#ifdef BAD_SWEEPCLEARS
	STEP won = (row[d] == ROW_DEAD && life[d] == l); END
	if :: !won -> goto out :: else fi;
	STEP touched[d * 2] = 0; END
	STEP touched[d * 2 + 1] = 0; END
#endif
	STEP if :: row[d] == ROW_DEAD && life[d] == l -> row[d] = ROW_FREE :: else fi; END
}

#define OTHER (3 - me)
/* The kernel tells who is dead: here, the killer. A reaper's row is not given out again. */
proctype reaper(byte me) {
	byte d, l, x, s, g; bit won;
	do
	:: WHEN(row[1] == ROW_DEAD || (!alive[OTHER] && row[ROW(OTHER)] != ROW_FREE)) if
		:: row[1] == ROW_DEAD -> d = 1
		:: !alive[OTHER] && row[ROW(OTHER)] != ROW_FREE -> d = ROW(OTHER); row[d] = ROW_DEAD
		fi; l = life[d]; END
	   if
	   :: d > 0 ->
#ifdef BAD_EARLY
		STEP row[d] = ROW_FREE; END
#endif
		sweep()
	   :: else
	   fi;
out:	   d = 0; l = 0; x = 0; s = 0; g = 0; won = 0
	od;
	DEAD(d = 0; l = 0; x = 0; s = 0; g = 0; won = 0)
}

active proctype monitor() {
	timeout;
	/* nothing names the dead, once all is quiet: what they held was found */
	assert(owner[0] == NOBODY && owner[1] == NOBODY)
}

init { atomic {
	row[2] = ROW_LIVE; row[3] = ROW_LIVE;
	run peer(0); run reaper(1); run reaper(2)
} }
